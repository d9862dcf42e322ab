"""The meaning of the adapters' options, for the page of all adapters."""

MEANINGS = {
    "rank": "The rank r.",
    "lora.rank": "The rank r (PEFT: `r`, kohya: `network_dim`).",
    "lora.alpha": "The product is scaled by alpha / rank (PEFT: `lora_alpha`, kohya: `network_alpha`). If unset, alpha "
    "is the rank.",
    "rank_stabilized": "Scale by alpha / √rank instead (rsLoRA; PEFT: `use_rslora`).",
    "pissa.rank": "The number of top singular columns, r.",
    "t_lora.rank": "The rank r at timestep 0.",
    "t_lora.min_rank": "The rank r_min at the noisiest timestep. If unset, half of the rank.",
    "t_lora.alpha": "The product is scaled by alpha / rank. If unset, alpha is the rank.",
    "t_lora.seed": "The seed of the random matrix.",
    "num_virtual_tokens": "The number n of keys and values (PEFT: `num_virtual_tokens`).",
    "loha.rank": "The rank of each of the two products (LyCORIS: `network_dim`).",
    "loha.alpha": "The product is scaled by alpha / rank. If unset, alpha is the rank.",
    "spectral_additive.rank": "The number of singular columns, r.",
    "spectral_rotational.rank": "The number of singular columns, r.",
    "train_scale": "Also train the scale s of the singular values.",
    "oft.rank": "The number of blocks (PEFT: `r`).",
    "boft.block_size": "The size b of the blocks, even (PEFT: `boft_block_size`).",
    "boft.num_factors": "The number m of butterfly factors (PEFT: `boft_n_butterfly_factor`); 2^(m − 1) b must divide "
    "in.",
    "oft.shared": "All blocks share one rotation (PEFT: `block_share`).",
    "seed": "The seed of the frozen random matrices.",
    "lidb.out_size": "a, at most out.",
    "lidb.in_size": "b, at most in.",
    "orthogonal.rank": "The number of rows, r.",
    "orthogonal.seed": "The seed of the orthogonal matrix; the same for all concepts to be merged.",
    "scale_form": "How s changes the singular values: S₁ (1 + s), or S₁ + s.",
    "columns": "Which singular columns: the matrix's top or bottom ones, those of a random orthonormal basis, or "
    "indices sampled by the seed and the concept's name, without coordination between concepts.",
    "indices": "The indices of the top columns to use, as a list; then no block is allocated.",
    "sampled_from": "Set by training where columns are sampled: how many they were drawn from.",
    "spectral_additive.seed": "The seed of a random basis or of sampled columns.",
    "spectral_rotational.seed": "The seed of a random basis or of sampled columns.",
    "lora_xs.rank": "The number of singular vectors, r.",
    "lora_xs.alpha": "R is scaled by alpha / rank. If unset, alpha is the rank.",
    "lora_xs.basis": "The frozen vectors: the weight's top or bottom singular vectors, random orthonormal ones, or "
    "those of the SVD of a random matrix.",
    "lora_xs.singular_values": "Whether S_r is part of the product.",
    "hydra.rank": "The rank of each branch.",
    "lokr.rank": "The rank of the second matrix (LyCORIS: `network_dim`); whole where it reaches its shorter side.",
    "lokr.factor": "The maximum of out₁ and in₁ (LyCORIS: `factor`).",
    "lokr.alpha": "The product is scaled by alpha / rank. If unset, alpha is the rank.",
    "krona.residual": "Where out = in, also add the layer's input times a trained number.",
    "prompt_tuning.num_vectors": "The number n of embeddings, in place of the recipe's `num_vectors`.",
    "krona.factor": "The maximum of a_out and a_in (LyCORIS: `factor`).",
    "krona.scale": "The fixed scale s.",
    "glora.rank": "The rank of low-rank terms.",
    "glora.product": "The form of A.",
    "glora.sum": "The form of B.",
    "glora.bias_from_weight": "The form of C.",
    "glora.bias_product": "The form of D, which cannot be low_rank; D acts only where the layer has a bias.",
    "glora.bias_sum": "The form of E, which cannot be low_rank.",
    "ada_lora.rank": "The rank before pruning (PEFT: `init_r`).",
    "ada_lora.target_rank": "The mean rank after pruning (PEFT: `target_r`). If unset, half of the rank.",
    "ada_lora.orthogonality": "The weight of the penalty (PEFT: `orth_reg_weight`).",
    "ada_lora.warm_up": "The fraction of the steps before pruning begins (PEFT: `tinit`, in steps).",
    "ada_lora.final": "The fraction of the steps after pruning has ended (PEFT: `tfinal`, in steps).",
    "ada_link.position": "What is adapted: the text encoder's input or output, the latents after the UNet's first "
    "convolution, or text and latents.",
    "ada_link.activation": "The non-linearity φ.",
    "ada_link.dropout": "The share of E's features that are zero in a training step.",
}
"""By option, or by adapter and option where the meaning differs."""


def meaning(adapter: str, option: str) -> str:
    """What an option of an adapter means."""
    return MEANINGS.get(f"{adapter}.{option}") or MEANINGS[option]
