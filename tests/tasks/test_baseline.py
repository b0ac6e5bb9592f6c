"""Which models share an image-blind baseline."""

from __future__ import annotations

from clipbias.tasks.baseline import stand_ins


def test_models_of_one_architecture_share_the_first_ones():
    found = stand_ins(["zoo:vit-95", "zoo:resnet-50", "zoo:vit-50", "zoo:resnet-beach"])
    assert found == {
        "zoo:vit-95": "zoo:vit-95", "zoo:vit-50": "zoo:vit-95",
        "zoo:resnet-50": "zoo:resnet-50", "zoo:resnet-beach": "zoo:resnet-50",
    }  # fmt: skip


def test_null_models_differ_by_seed_alone_and_other_preprocessing_is_another_shape():
    models = ["random:ViT-B-32?seed=0", "random:ViT-B-32?seed=1", "random:ViT-B-16?seed=0", "ViT-B-32/openai"]
    found = stand_ins(models)
    assert found["random:ViT-B-32?seed=1"] == found["ViT-B-32/openai"] == models[0]
    assert found[models[2]] == models[2]


def test_what_cannot_be_known_without_loading_stands_for_itself():
    models = ["file:weights.pt?model=ViT-B-32", "zoo:no-such-model", "hf-hub:some/one"]
    assert stand_ins(models) == {model: model for model in models}
