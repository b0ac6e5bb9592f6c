"""Use a probe set, pictures and metrics of clipbias in a study of your own: a few lines, pandas out.

`encode_images` and `encode_texts` stand for your model; here a shipped one plays it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias import probes
from clipbias.metrics import max_skew, skew
from clipbias.models import load_model

mine = load_model("zoo:resnet-85")
encode_images, encode_texts = mine.encode_images, mine.encode_texts

people = probes.load_images(
    "emoji-people", styles=["noto"], size=64
)  # role x gender x tone: exact counterfactuals
images = encode_images(people.read(range(len(people))))
gender = people.table["gender"]

records = []
for role, prompts in probes.load("roles"):
    text = encode_texts(list(prompts)).mean(0)
    scores = images @ (text / np.linalg.norm(text))
    by_group = skew(scores, gender, k=20)
    worst = max(by_group, key=lambda g: by_group[g])
    records.append({"role": role, "max_skew": max_skew(scores, gender, k=20), "over-represented": worst})
print(pd.DataFrame(records).sort_values("max_skew", ascending=False).round(3).to_string(index=False))
