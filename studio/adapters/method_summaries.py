"""What each adapter does or is suited for, in one sentence; the README's table has the same."""

GOOD_FOR = {
    "lora": "The adapter that every other tool supports.",
    "spectral_additive": "For concepts to be merged: each concept trains its own singular columns.",
    "spectral_rotational": "The smallest useful files: rotates the concept's own singular columns.",
    "oft": "Orthogonal finetuning; rank is the number of blocks.",
    "vera": "Small files at any rank: trains two vectors per layer, and the random matrices follow from a seed.",
    "svdiff": "Trains the singular values only.",
    "lidb": "LoRA within frozen random subspaces, about a tenth of its size.",
    "orthogonal": "For concepts to be summed: LoRA with orthogonal input directions for each concept.",
    "lora_xs": "Trains a small matrix between the top singular vectors.",
    "seq_lora": "LoRA of a layer's output, its bias included.",
    "hydra": "lora and seq_lora in parallel.",
    "dora": "LoRA with a trained magnitude for each row, often better at low rank.",
    "krona": "A change of full rank as a Kronecker product (LoKr); no rank.",
    "ia3": "Scales keys, values and the feed-forward's inner activation; no rank.",
    "glora": "Generalised LoRA: optional multiplicative and additive terms of weight and bias.",
    "ada_lora": "LoRA that allocates more rank to more important layers.",
    "ada_link": "Changes the text embeddings, and no layer.",
    "bitfit": "Trains the biases only.",
    "layer_norm": "Trains the layer and group norms only.",
    "difffit": "Trains biases, norms, and a scale of each attention and feed-forward branch.",
}
