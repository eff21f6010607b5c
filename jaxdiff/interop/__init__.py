"""Other libraries' weights as variables of our networks.

- `tensors`: files of arrays, read without running anything that they hold
- `layout`: the names of another library, and how its arrays become ours and back
- `foreign_model`: a model of another library in our terms; `pretrained`: `load_pretrained`, a folder as a model
- `single_file`: the single files of Stable Diffusion, by the names of `latent_diffusion` and `stable_diffusion_3`
- `text_encoders`: `text_encoder`, a folder of transformers as a frozen encoder: `clip`, `t5`, `bert`, `tokenizers`
- `diffusers/`: the models of the library diffusers; `taesd`: tiny autoencoders
"""

from jaxdiff.extras import needed

with needed("jaxdiff.interop"):
    from jaxdiff.interop.pretrained import load_pretrained
    from jaxdiff.interop.text_encoders import text_encoder

__all__ = ["load_pretrained", "text_encoder"]
