"""Conditions: what a network is told beside time.

- `condition`: the interface
- `label`: classes; `vector`: numbers; `planes`: pictures
- `text`: captions, through an encoder that is trained with the model; `pretrained_text`: captions, through a frozen
  `text_encoder` with its `tokenizer`; `joined_text`: captions, through several of them
"""

from jaxdiff.conditions.condition import Condition
from jaxdiff.conditions.joined_text import JoinedText
from jaxdiff.conditions.label import Label
from jaxdiff.conditions.planes import Planes
from jaxdiff.conditions.pretrained_text import PretrainedText
from jaxdiff.conditions.text import Text
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.conditions.tokenizer import Tokenizer
from jaxdiff.conditions.vector import Vector

__all__ = ["Condition", "JoinedText", "Label", "Planes", "PretrainedText", "Text", "TextEncoder", "Tokenizer", "Vector"]
