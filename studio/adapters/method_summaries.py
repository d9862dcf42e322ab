"""What each method is suited for, in one sentence; the README's table has the same."""

GOOD_FOR = {
    "lora": "The method that every other tool reads.",
    "spectral_additive": "Concepts to be merged: each tunes singular columns of its own.",
    "spectral_rotational": "The smallest useful files; rotates the top singular vectors.",
    "oft": "Keeps the angles between neurons; rank is the number of blocks.",
    "vera": "Small files at any rank: two vectors for each layer, the rest from a seed.",
    "svdiff": "A change of the singular values alone.",
    "lidb": "A LoRA inside frozen orthogonal bases, a tenth of its size.",
    "orthogonal": "Concepts to be summed: LoRAs on orthogonal input directions.",
    "lora_xs": "Mixes the top singular vectors by a small matrix.",
    "seq_lora": "A LoRA of a layer's output, its bias included.",
    "hydra": "lora and seq_lora in parallel.",
    "dora": "LoRA with a trained magnitude for each row, often better at low rank.",
    "krona": "Changes of full rank from a Kronecker product; no rank.",
    "ia3": "Scales keys, values and the feed-forward; no rank.",
    "glora": "Products with and sums to weight and bias, each optional.",
    "ada_lora": "LoRA that allocates its ranks to the most important layers.",
    "ada_link": "Changes the text embeddings and no layer.",
    "bitfit": "Biases alone.",
    "layer_norm": "Norms alone.",
    "difffit": "Biases, norms, and a factor on each branch.",
}
