"""The heads that write: language models by path, LLaVA's stages, prompts, pooling of tokens."""

from __future__ import annotations

import pytest
import torch
import toy_scenes as toy

from clipbias.errors import DataError
from clipbias.tasks.heads import build_head
from clipbias.tasks.heads.base import Features, TextBatch
from clipbias.tasks.heads.decoder import BlipDecoder
from clipbias.tasks.heads.parts import fewer, token_losses
from clipbias.tasks.heads.writing import Writing

SMALL = {"width": 32, "hidden": 48, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> str:
    """A folder with a causal language model, three tokens short of the vocabulary."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(vocab_size=len(toy.VOCABULARY) - 3, n_positions=64, n_embd=24, n_layer=1, n_head=2)
    with torch.random.fork_rng():
        GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


def test_prompts_and_sequences():
    v = toy.VOCABULARY
    device = torch.device("cpu")
    writing = Writing("both", v, (), 24, 24)
    ids, mask, labels = writing.sequences(
        ["", "which object is there?"], ["a nurse with a kite", "dog"], device
    )
    assert ids[0, 0] == v.bos_id
    assert v.ans_id not in ids[0]
    assert ids[1].tolist().count(v.ans_id) == 1
    for row, target in ((0, "a nurse with a kite"), (1, "dog")):
        counted = labels[row][labels[row] != -100]
        assert counted[-1] == v.eos_id
        assert v.decode([counted.tolist()]) == [target]
        assert int(mask[row].sum()) == int((ids[row] != v.pad_id).sum())
    assert Writing("vqa", v, (), 24, 24).prompts([""], device)[0].tolist() == [[v.bos_id, v.ans_id]]


def test_nothing_longer_than_the_limits_is_written_or_read():
    head = build_head("decoder", toy.setting("vqa", **SMALL, max_length=3, question_length=4))
    seen, _ = toy.batch("vqa")
    long = ["who is in the picture?" * 20] * 32
    assert all(len(one.text.split()) <= 3 for one in head.eval().predict(seen, TextBatch(long)))
    assert torch.isfinite(head.loss(seen, TextBatch(long, ["police officer " * 9] * 32)))


@pytest.mark.parametrize("name", ["decoder", "prefix", "llava"])
def test_many_answers_are_ranked_in_blocks_as_in_one(name, monkeypatch):
    head = build_head(name, toy.setting("vqa", **SMALL)).eval()
    seen, texts = toy.batch("vqa")
    whole = head.answer_probabilities(seen, TextBatch(texts.questions))
    monkeypatch.setattr("clipbias.tasks.heads.decoder._PACKED", 5)
    monkeypatch.setattr("clipbias.tasks.heads.causal._AT_ONCE", 16)
    torch.testing.assert_close(
        head.answer_probabilities(seen, TextBatch(texts.questions)), whole, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["decoder", "prefix", "llava"])
def test_ranks_equal_the_likelihood_of_each_answer_by_itself(name):
    head = build_head(name, toy.setting("vqa", **SMALL)).eval()
    seen, texts = toy.batch("vqa")
    found = head.answer_probabilities(seen, TextBatch(texts.questions))
    for place, answer in enumerate(head.setting.answers):
        with torch.no_grad():
            each = head.losses(seen, TextBatch(texts.questions, [answer] * 32))
        tokens = len(head.writing.answer_tokens[place])
        torch.testing.assert_close(found[:, place], (-each * tokens).exp(), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(("name", "tuning"), [("prefix", "full"), ("prefix", "frozen"), ("llava", "lora")])
def test_a_language_model_by_path(gpt2, name, tuning):
    made = toy.setting("captioning", language_model=gpt2, tuning=tuning, **SMALL)
    head = build_head(name, made)
    assert head.width == 24
    assert head.language.get_input_embeddings().num_embeddings == len(toy.VOCABULARY)
    before = {key: value.clone() for key, value in head.state_dict().items()}
    first = float(head.eval().loss(*toy.batch("captioning")).detach())
    assert toy.learn(head, "captioning", steps=20, rate=1e-2) < first
    changed = {key for key, value in head.state_dict().items() if not torch.equal(value, before[key])}
    language = {key for key in changed if key.startswith("language")}
    assert any(key.startswith("projector") for key in changed)
    assert bool(language) == (tuning != "frozen")
    if tuning == "lora":
        assert all("lora_" in key for key in language)


@pytest.mark.parametrize("whole", [False, True])
def test_a_blip_decoder_by_path(tmp_path, whole):
    from transformers import BlipConfig, BlipForConditionalGeneration

    source = build_head("decoder", toy.setting("captioning", **SMALL), seed=3).text
    if whole:
        vision = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
        }
        config = BlipConfig(text_config=source.config.to_dict(), vision_config=vision, projection_dim=16)
        blip = BlipForConditionalGeneration(config)
        source = blip.text_decoder
        blip.save_pretrained(tmp_path, safe_serialization=False)  # two of its tensors are one
    else:
        source.save_pretrained(tmp_path, safe_serialization=False)
    head = build_head("decoder", toy.setting("captioning", language_model=str(tmp_path)), seed=4)
    assert isinstance(head, BlipDecoder)
    for name, value in source.state_dict().items():
        assert torch.equal(value, head.text.state_dict()[name])
    assert torch.isfinite(head.loss(*toy.batch("captioning")).detach())


def test_a_decoder_that_lacks_weights_is_refused_and_a_tied_one_is_not(tmp_path):
    text = build_head("decoder", toy.setting("captioning", **SMALL), seed=3).text
    text.save_pretrained(tmp_path, safe_serialization=False)
    state = text.state_dict()
    del state["cls.predictions.decoder.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    made = toy.setting("captioning", language_model=str(tmp_path))
    head = build_head("decoder", made)
    words = text.state_dict()["bert.embeddings.word_embeddings.weight"]
    assert torch.equal(head.text.state_dict()["cls.predictions.decoder.weight"], words)
    torch.save({k: v for k, v in state.items() if "crossattention" not in k}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"lacks \d+ tensors, first 'bert.encoder.layer.0.crossattention"):
        build_head("decoder", made)


@pytest.mark.parametrize("name", ["decoder", "prefix", "llava"])
def test_a_folder_without_a_model_gives_one_message(name, tmp_path):
    with pytest.raises(DataError, match=r"holds no (BLIP text decoder|causal language model)"):
        build_head(name, toy.setting("captioning", language_model=str(tmp_path)))


@pytest.mark.parametrize("name", ["prefix", "llava"])
def test_a_model_from_scratch_has_to_be_trained(name):
    with pytest.raises(DataError, match="needs a pretrained language_model"):
        build_head(name, toy.setting("captioning", tuning="frozen"))
    with pytest.raises(DataError, match="Did you mean 'lora'"):
        build_head(name, toy.setting("captioning", tuning="lor"))
    with pytest.raises(DataError, match="Did you mean 'transformer'"):
        build_head("prefix", toy.setting("captioning", mapper="transfomer"))


def test_llava_stages_train_the_projector_then_both(gpt2):
    head = build_head("llava", toy.setting("vqa", language_model=gpt2, tuning="lora", **SMALL))
    everything = {n for n, p in head.named_parameters() if p.requires_grad}
    assert head.stage(1) == ("align", "captioning", ("projector",))
    assert {n.split(".")[0] for n, p in head.named_parameters() if p.requires_grad} == {"projector"}
    assert head.stage(2).task == "vqa"
    assert {n for n, p in head.named_parameters() if p.requires_grad} == everything
    with pytest.raises(DataError, match="stages 1 and 2"):
        head.stage(3)
    scratch = build_head("llava", toy.setting("vqa", **SMALL))
    assert scratch.stage(1).trainable == ("projector", "language")


def test_one_llava_answers_and_describes():
    head = build_head("llava", toy.setting("both", **SMALL))
    seen, asked = toy.batch("vqa")
    pictures, told = toy.batch("captioning")
    both = Features(torch.cat([seen.pooled, pictures.pooled]), torch.cat([seen.tokens, pictures.tokens]))
    texts = TextBatch(asked.questions + told.questions, asked.targets + told.targets)
    optimizer = torch.optim.AdamW(head.parameters(), 5e-3)
    head.train()
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(both, texts).backward()
        optimizer.step()
    said = head.eval().predict(both, TextBatch(texts.questions))
    assert [one.text for one in said] == texts.targets


def test_fewer_tokens_are_means_over_neighbours():
    tokens = torch.arange(16.0).view(1, 16, 1)
    assert fewer(tokens, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert fewer(tokens, 0) is tokens
    assert fewer(tokens, 16) is tokens
    assert fewer(tokens[:, :6], 3).flatten().tolist() == [0.5, 2.5, 4.5]


def test_token_losses_leave_out_what_does_not_count():
    logits = torch.zeros(2, 3, 4)
    labels = torch.tensor([[1, 2, -100], [-100, -100, -100]])
    found = token_losses(logits, labels)
    assert found.tolist() == pytest.approx([torch.tensor(4.0).log().item(), 0.0])
