"""Models of the library diffusers: folders of a `config.json` and `.safetensors` files.

- `unets`: `UNet2DModel` and `UNet2DConditionModel`
- `transformers`: `DiTTransformer2DModel` and `SD3Transformer2DModel`
- `networks`: the networks that denoise, by the names of their classes
- `autoencoders`: `AutoencoderKL` and `AutoencoderTiny`
- `schedulers`: the process, the meaning of the network's output and the time grid
- `captions`: what pipelines tell their networks of a caption
- `pipelines`: the models of whole pipelines
- `names`: the names of arrays that U-Nets and autoencoders share
- `settings`: the entries of a configuration, and the errors about them
- `folders`: the files of a folder
"""
