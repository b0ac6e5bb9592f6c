"""CLIPScore and RefCLIPScore: by hand with made-up vectors, and with a zoo model as the judge."""

from __future__ import annotations

import numpy as np
import pytest

from clipbias.errors import DataError
from clipbias.tasks.metrics import clip_score, ref_clip_score

PICTURES = {b"east": [1.0, 0.0], b"north": [0.0, 2.0]}  # lengths do not count
TEXTS = {"east": [3.0, 0.0], "northeast": [1.0, 1.0], "west": [-1.0, 0.0], "north": [0.0, 1.0]}


class Judge:
    """Embeds the four texts and two pictures above; texts come with the prompt before them."""

    spec = "random:judge"

    def encode_images(self, images):
        return np.array([PICTURES[image] for image in images])

    def encode_texts(self, texts):
        assert all(text.startswith("A photo depicts ") for text in texts)
        return np.array([TEXTS[text.removeprefix("A photo depicts ")] for text in texts])


def test_clip_score_by_hand():
    found = clip_score([b"east", b"east", b"east"], ["east", "northeast", "west"], judge=Judge())
    np.testing.assert_allclose(found.per_image, [2.5, 2.5 / np.sqrt(2), 0.0])  # no score is below 0
    assert found.mean == pytest.approx(found.per_image.mean())
    assert found.judge == "random:judge"


def test_ref_clip_score_is_the_harmonic_mean_with_the_best_reference():
    found = ref_clip_score(
        [b"east", b"east", b"north"],
        ["northeast", "west", "north"],
        [["north", "west"], ["west"], ["north"]],
        judge=Judge(),
    )
    clip, best = 2.5 / np.sqrt(2), 1 / np.sqrt(2)
    # The second caption is that of its reference but not that of its picture; the third has the top score, 10/7.
    np.testing.assert_allclose(found.per_image, [2 * clip * best / (clip + best), 0.0, 10 / 7])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda j: clip_score([b"east"], [], judge=j), "1 images and 0 captions"),
        (lambda j: clip_score([], [], judge=j), "at least one"),
        (lambda j: ref_clip_score([b"east"], ["east"], [], judge=j), "references of 0 images"),
        (lambda j: ref_clip_score([b"east"], ["east"], [[]], judge=j), "image 0 has no list of references"),
        (
            lambda j: ref_clip_score([b"east"], ["east"], ["east"], judge=j),
            "image 0 has no list of references",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(DataError, match=message):
        call(Judge())


def test_a_zoo_judge_prefers_the_true_captions_and_may_not_judge_itself():
    from clipbias.probes.world import World, image_set

    shown = image_set(World(n=24, seed=5, noise=0.0))
    pictures, true = shown.read(list(range(24))), shown.table["caption"].tolist()
    judge = {"judge": "zoo:resnet-50", "under_test": "zoo:vit-50", "prompt": ""}
    right, wrong = clip_score(pictures, true, **judge), clip_score(pictures, true[12:] + true[:12], **judge)
    assert right.judge == "zoo:resnet-50"
    assert right.mean > wrong.mean + 0.1
    assert (right.per_image > wrong.per_image).mean() > 0.8
    with pytest.raises(DataError, match="cannot judge its own captions"):
        clip_score(pictures, true, judge="zoo:resnet-50", under_test=["zoo:vit-50", "zoo:resnet-50"])
