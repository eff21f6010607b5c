"""Models: what is trained, and what a trained run is loaded as.

- `model`: the interface
- `diffusion`: diffusion models, loaded as a `diffusion_model`; `flow_map`: the same with two times
- `classifier`, `autoencoder`, `embedding`: models that other models use
- `compressed`: weights in fewer bits, for sampling
- `conditioned`: the conditions of a model together; `sampling`, `draw`: how samples are drawn
"""

from jaxdiff.models.autoencoder import Autoencoder, AutoencoderModel
from jaxdiff.models.classifier import Classifier, ClassifierModel
from jaxdiff.models.compressed import compressed
from jaxdiff.models.diffusion import Diffusion
from jaxdiff.models.diffusion_model import DiffusionModel
from jaxdiff.models.embedding import Embedding, EmbeddingModel
from jaxdiff.models.flow_map import FlowMap
from jaxdiff.models.model import Bound, Model
from jaxdiff.models.sampling import Sampling

__all__ = [
    "Autoencoder",
    "AutoencoderModel",
    "Bound",
    "Classifier",
    "ClassifierModel",
    "Diffusion",
    "DiffusionModel",
    "Embedding",
    "EmbeddingModel",
    "FlowMap",
    "Model",
    "Sampling",
    "compressed",
]
