"""A classifier of noisy digits."""

from additions import small
from jaxdiff import processes
from jaxdiff.components import choose
from jaxdiff.data import Digits
from jaxdiff.models import Classifier
from jaxdiff.networks import Encoder
from jaxdiff.objectives import CrossEntropy
from jaxdiff.runs.config import Config

CONFIG = Config(
    data=Digits(),
    model=Classifier(network=Encoder(channels=8, multipliers=(1,)), process=choose(processes.vp_cosine)),
    objective=CrossEntropy(),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
)
