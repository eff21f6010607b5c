"""What the pipelines of diffusers tell their networks of a caption."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdiff.checks import require
from jaxdiff.conditions import Condition, JoinedText, PretrainedText, Vector
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.data.fields import Field
from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.networks import CLIPText, Sinusoidal, T5Encoder

FIRST, SECOND, THIRD = "text_encoder", "text_encoder_2", "text_encoder_3"
ENCODERS = (FIRST, SECOND, THIRD)
# The sizes of Stable Diffusion XL: those of the whole picture, the place of the crop, and the size of the crop.
_SIZES = ("height", "width", "top", "left", "crop height", "crop width")
# The number of tokens of T5 in Stable Diffusion 3.
_T5_LENGTH = 256


class Captions(NamedTuple):
    """How a network is told of captions.

    Attributes:
      conditions: the conditions by name.
      fields: the fields that they read.
      scale: the guidance scale of the pipeline.
    """

    conditions: dict[str, Condition]
    fields: dict[str, Field]
    scale: float


def part_of(name: str) -> str:
    """The path of a text encoder in a run, by its name in a pipeline."""
    return f"parts/{name.replace('_encoder', '')}"


def captions(
    config: Mapping[str, Any], encoders: Mapping[str, TextEncoder], size: tuple[int, ...], zero_null: bool
) -> Captions | None:
    """The conditions of a network on captions; None for a network that reads none.

    Args:
      config: the entries of the `config.json` of the network.
      encoders: the text encoders of its pipeline, by their names there.
      size: the height and the width of pictures.
      zero_null: whether the network is told zeros, and not the encoding of "", where no caption is asked for.

    Raises:
      ValueError: an encoder is missing, too many, of another kind or width, or has a tokenizer of another kind.
    """
    kind, settings = config.get("_class_name"), Settings(config)
    if kind == "SD3Transformer2DModel":
        _check(encoders, (FIRST, SECOND), (THIRD,))
        return _stable_diffusion_3(settings, encoders)
    if kind != "UNet2DConditionModel":
        _check(encoders, ())
        return None
    if config.get("addition_embed_type") == "text_time":
        _check(encoders, (FIRST, SECOND))
        return _stable_diffusion_xl(settings, encoders, size, zero_null)
    _check(encoders, (FIRST,))
    return _stable_diffusion(settings, encoders[FIRST])


def _stable_diffusion(settings: Settings, encoder: TextEncoder) -> Captions:
    """The last hidden layer of one encoder."""
    width = encoder.network.width
    _same(settings, "cross_attention_dim", width, 1280)
    length = getattr(encoder.network, "length", None) or 77
    text = PretrainedText(part_of(FIRST), length=length, masked=False)
    return Captions({"text": text}, _fields(), 7.5)


def _stable_diffusion_xl(
    settings: Settings, encoders: Mapping[str, TextEncoder], size: tuple[int, ...], zero_null: bool
) -> Captions:
    """The layers before the last of two encoders of CLIP, the vector of the second one, and sizes."""
    first, second = (_clip(name, encoders[name], name == SECOND) for name in (FIRST, SECOND))
    _same(settings, "cross_attention_dim", first.width + second.width, 1280)
    features = settings.length("addition_time_embed_dim")
    pooled = (second.projection or 0) + len(_SIZES) * features
    _same(settings, "projection_class_embeddings_input_dim", pooled)
    cos_first, endpoint = bool(settings.get("flip_sin_to_cos", True)), settings.get("freq_shift", 0) == 1
    read, told = _texts(first, second, (False, False)), _texts(first, second, (False, True))
    sizes = Vector(
        "sizes",
        embedding=Sinusoidal(cos_first=cos_first, endpoint=endpoint),
        features=features,
        usual=tuple(map(float, (*size, 0, 0, *size))),
    )
    conditions: dict[str, Condition] = {
        "text": JoinedText(read, zero_null=zero_null),
        "pooled": JoinedText(told, zero_null=zero_null),
        "sizes": sizes,
    }
    fields = _fields() | {"sizes": Field("values", (len(_SIZES),), "float32", names=_SIZES)}
    return Captions(conditions, fields, 5.0)


def _stable_diffusion_3(settings: Settings, encoders: Mapping[str, TextEncoder]) -> Captions:
    """The layers before the last of two encoders of CLIP, the tokens of T5 or zeros, and the vectors of CLIP."""
    first, second = (_clip(name, encoders[name], True) for name in (FIRST, SECOND))
    _same(settings, "pooled_projection_dim", (first.projection or 0) + (second.projection or 0), 2048)
    width, both = settings.length("joint_attention_dim", 4096), first.width + second.width
    allowed = f"at least {both}, the width of {FIRST} and {SECOND}"
    require(width >= both, "config.json: joint_attention_dim", width, allowed)
    after: tuple[PretrainedText, ...] = ()
    if THIRD in encoders:
        third = encoders[THIRD].network
        require(isinstance(third, T5Encoder), THIRD, type(third).__name__, "T5Encoder")
        _same(settings, "joint_attention_dim", third.width, 4096)
        after = (PretrainedText(part_of(THIRD), length=_T5_LENGTH, masked=False),)
    blank = 0 if after else _T5_LENGTH
    conditions: dict[str, Condition] = {
        "text": JoinedText(_texts(first, second, (False, False)), after, blank, width),
        "pooled": JoinedText(_texts(first, second, (True, True)), after, blank, width),
    }
    return Captions(conditions, _fields(), 7.0)


def _texts(first: CLIPText, second: CLIPText, pooled: tuple[bool, bool]) -> tuple[PretrainedText, ...]:
    """Both encoders of CLIP, of which the network is told the layer before the last, or vectors."""
    named = zip((FIRST, SECOND), (first, second), pooled, strict=True)
    return tuple(
        PretrainedText(part_of(name), length=network.length, masked=False, before_last=True, pooled=vector)
        for name, network, vector in named
    )


def _fields() -> dict[str, Field]:
    return {"caption": Field("text", (), "str")}


def _check(encoders: Mapping[str, Any], needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Raises a ValueError if encoders are missing, or too many."""
    allowed = ", ".join(needed) or "none"
    allowed += "".join(f", and perhaps {name}" for name in optional) + " for this network"
    good = {*needed} <= {*encoders} <= {*needed, *optional}
    require(good, "text encoders", ", ".join(sorted(encoders)) or "none", allowed)


def _clip(name: str, encoder: TextEncoder, projects: bool) -> CLIPText:
    """The network of an encoder that has to be one of CLIP, with a projection if `projects`."""
    network: Any = encoder.network
    good = isinstance(network, CLIPText) and (network.projection is not None or not projects)
    kind = type(network).__name__
    require(good, name, kind, f"CLIPText{' with the array text_projection.weight' if projects else ''}")
    last = int(encoder.tokenizer("", 2)[0, -1])
    end = encoder.tokenizer.opened().size - 1 if network.end_id is None else network.end_id
    require(last == end, f"{name}: end of the texts of its tokenizer", last, f"{end}, that of the encoder")
    return network


def _same(settings: Settings, name: str, width: int, default: int | None = None) -> None:
    """Raises a ValueError if an entry is not the width of the text encoders."""
    value = settings.length(name, default)
    require(value == width, f"config.json: {name}", value, f"{width}, which the text encoders give")
