"""Guidance: functions from denoisers to a denoiser, and the components that name them in a preset.

A rule of guidance is a function of one or several denoisers of the same process. Its numbers are leaves of the denoiser
that it makes, so that another scale compiles nothing. Rules compose: a rule is given the denoiser of another rule.
`docs/guidance.md` says what each rule samples, when it is exact, and what it costs.

- `both`: several estimates in one call of a network
- `schedules`: scales that depend on time
- `classifier_free`, `cfg_plus_plus`, `apg`, `cfg_zero_star`: from an unconditional to a conditional estimate
- `autoguidance`: from a weak to a strong model
- `perturbed_attention`, `skip_layer`: from the network with weakened layers to the network itself
- `composition`: several conditions at once: `product` and `mixture`
- `instruct_pix2pix`: a picture and an instruction, each with a scale of its own
- `classifier`, `reward`: along a gradient
- `interval`, `rescale`, `threshold`: changes of other rules
- `guidance`, `around`: the interface of the components, and the base of those around another rule
- `guided`, `weakened`, `estimates`, `memory`, `frozen`, `rewards`: what the rules and their components are made of

The temperature of a score is an option of solvers: `solvers.temperature`.
"""

from jaxdiff.guidance.apg import APG, apg
from jaxdiff.guidance.autoguidance import Autoguidance, autoguidance
from jaxdiff.guidance.both import both
from jaxdiff.guidance.cfg_plus_plus import CFGPlusPlus, cfg_plus_plus
from jaxdiff.guidance.cfg_zero_star import CFGZeroStar, cfg_zero_star
from jaxdiff.guidance.classifier import ClassifierGuidance, classifier
from jaxdiff.guidance.classifier_free import ClassifierFree, classifier_free
from jaxdiff.guidance.composition import Composition, Term, mixture, product
from jaxdiff.guidance.guidance import Asked, Guidance
from jaxdiff.guidance.instruct_pix2pix import InstructPix2Pix, instruct_pix2pix
from jaxdiff.guidance.interval import Interval, interval
from jaxdiff.guidance.perturbed_attention import PerturbedAttention, perturbed_attention
from jaxdiff.guidance.rescale import Rescale, rescale
from jaxdiff.guidance.reward import RewardGuidance, reward
from jaxdiff.guidance.schedules import Cosine, Linear, Power, Schedule
from jaxdiff.guidance.skip_layer import SkipLayer, skip_layer
from jaxdiff.guidance.threshold import DynamicThreshold, StaticThreshold, dynamic_threshold, static_threshold

__all__ = [
    "APG",
    "Asked",
    "Autoguidance",
    "CFGPlusPlus",
    "CFGZeroStar",
    "ClassifierFree",
    "ClassifierGuidance",
    "Composition",
    "Cosine",
    "DynamicThreshold",
    "Guidance",
    "InstructPix2Pix",
    "Interval",
    "Linear",
    "PerturbedAttention",
    "Power",
    "Rescale",
    "RewardGuidance",
    "Schedule",
    "SkipLayer",
    "StaticThreshold",
    "Term",
    "apg",
    "autoguidance",
    "both",
    "cfg_plus_plus",
    "cfg_zero_star",
    "classifier",
    "classifier_free",
    "dynamic_threshold",
    "instruct_pix2pix",
    "interval",
    "mixture",
    "perturbed_attention",
    "product",
    "rescale",
    "reward",
    "skip_layer",
    "static_threshold",
]
