"""Weights of diffusers' transformers as the parameters of ours, by name."""

import numpy as np


def dense(weights, *names):
    """One dense layer of several, side by side."""
    kernel = np.concatenate([weights[f"{name}.weight"].T for name in names], axis=-1)
    return {"kernel": kernel, "bias": np.concatenate([weights[f"{name}.bias"] for name in names])}


def swapped(weights, name):
    """A layer whose first half is the scale and whose second half is the shift, in our order."""
    layer = dense(weights, name)
    return {key: np.concatenate(np.split(value, 2, axis=-1)[::-1], axis=-1) for key, value in layer.items()}


def patches(weights, name):
    return {"kernel": weights[f"{name}.weight"].transpose(2, 3, 1, 0), "bias": weights[f"{name}.bias"]}


def stacked(layers):
    """Layers of equal structure as one, with an axis of layers."""
    first = layers[0]
    if isinstance(first, dict):
        return {key: stacked([layer[key] for layer in layers]) for key in first}
    return np.stack(layers)


def dit(weights):
    """diffusers' DiTTransformer2DModel. Each block has a copy of the embedders, of which one is enough."""

    def block(i):
        b = f"transformer_blocks.{i}"
        return {
            "modulation": {"dense": dense(weights, f"{b}.norm1.linear")},
            "attention": {
                "qkv": dense(weights, *(f"{b}.attn1.to_{part}" for part in "qkv")),
                "out": dense(weights, f"{b}.attn1.to_out.0"),
            },
            "feed_forward": {"in": dense(weights, f"{b}.ff.net.0.proj"), "out": dense(weights, f"{b}.ff.net.2")},
        }

    depth = len([name for name in weights if name.endswith("norm1.linear.weight")])
    embedders = "transformer_blocks.0.norm1.emb"
    return {
        "patch_in": patches(weights, "pos_embed.proj"),
        "conditioning": {
            "time_in": dense(weights, f"{embedders}.timestep_embedder.linear_1"),
            "time_out": dense(weights, f"{embedders}.timestep_embedder.linear_2"),
            "label_table": {"embedding": weights[f"{embedders}.class_embedder.embedding_table.weight"]},
        },
        "layers": stacked([block(i) for i in range(depth)]),
        "out": {"modulation": {"dense": dense(weights, "proj_out_1")}, "dense": dense(weights, "proj_out_2")},
    }


def sd3(weights, dual_depth):
    """diffusers' SD3Transformer2DModel, with the conditions `text` and `pooled`."""
    depth = len([name for name in weights if name.endswith("norm1.linear.weight")])

    def norms(attention, ours, theirs):
        named = {f"{ours}query_norm": f"{attention}.{theirs}q", f"{ours}key_norm": f"{attention}.{theirs}k"}
        return {o: {"scale": weights[f"{t}.weight"]} for o, t in named.items() if f"{t}.weight" in weights}

    def block(i):
        b, last = f"transformer_blocks.{i}", i == depth - 1
        found = {
            "modulation": {"dense": dense(weights, f"{b}.norm1.linear")},
            "qkv": dense(weights, *(f"{b}.attn.to_{part}" for part in "qkv")),
            "out": dense(weights, f"{b}.attn.to_out.0"),
            "feed_forward": {"in": dense(weights, f"{b}.ff.net.0.proj"), "out": dense(weights, f"{b}.ff.net.2")},
            "context_qkv": dense(weights, *(f"{b}.attn.add_{part}_proj" for part in "qkv")),
        }
        found |= norms(f"{b}.attn", "", "norm_") | norms(f"{b}.attn", "context_", "norm_added_")
        if i < dual_depth:
            found["dual_attention"] = {
                "qkv": dense(weights, *(f"{b}.attn2.to_{part}" for part in "qkv")),
                "out": dense(weights, f"{b}.attn2.to_out.0"),
                **norms(f"{b}.attn2", "", "norm_"),
            }
        if last:
            return found | {"context_modulation": {"dense": swapped(weights, f"{b}.norm1_context.linear")}}
        return found | {
            "context_modulation": {"dense": dense(weights, f"{b}.norm1_context.linear")},
            "context_out": dense(weights, f"{b}.attn.to_add_out"),
            "context_feed_forward": {
                "in": dense(weights, f"{b}.ff_context.net.0.proj"),
                "out": dense(weights, f"{b}.ff_context.net.2"),
            },
        }

    params = {
        "patch_in": patches(weights, "pos_embed.proj"),
        "conditioning": {
            "time_in": dense(weights, "time_text_embed.timestep_embedder.linear_1"),
            "time_out": dense(weights, "time_text_embed.timestep_embedder.linear_2"),
            "pooled": {
                "in": dense(weights, "time_text_embed.text_embedder.linear_1"),
                "out": dense(weights, "time_text_embed.text_embedder.linear_2"),
            },
        },
        "context": {"text": dense(weights, "context_embedder")},
        "last_layer": block(depth - 1),
        "out": {"modulation": {"dense": swapped(weights, "norm_out.linear")}, "dense": dense(weights, "proj_out")},
    }
    if dual_depth:
        params["dual_layers"] = stacked([block(i) for i in range(dual_depth)])
    if dual_depth < depth - 1:
        params["layers"] = stacked([block(i) for i in range(dual_depth, depth - 1)])
    return params
