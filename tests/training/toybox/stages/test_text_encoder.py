import numpy as np
import pytest
import torch

from training.toybox.scenes.captions import Caption, CaptionedItem
from training.toybox.stages import text_encoder
from training.toybox.stages.caption_attributes import all_facts, facts, targets
from training.toybox.stages.text_encoder import (
    AttributeClassifier,
    build,
    exact_match_accuracy,
    longest,
    loss,
    sample_captions,
    tokens,
)

CAT = CaptionedItem("cat", "black", "bib", "white", "bow tie", "red", "left")


def test_facts_are_of_the_kind_and_of_the_side():
    found = facts(Caption("", (CAT, CaptionedItem("key", "red"), CaptionedItem(None, "blue")), "beach"))
    assert ("cat", "second_colour", "white") in found
    assert ("left", "accessory_colour", "red") in found
    assert ("cat", "side", "left") in found
    assert ("something", "colour", "blue") in found
    assert ("picture", "background", "beach") in found
    assert len(found) == 7 + 6 + 2 + 1 + 1


def test_every_fact_of_the_world_has_a_place():
    captions = sample_captions(np.random.default_rng(5), 2000)
    rows = targets(captions)
    assert rows.shape == (2000, len(all_facts()))
    assert [int(row.sum()) for row in rows[:50]] == [len(facts(found)) for found in captions[:50]]


def test_the_longest_text_is_found_in_its_padding(bundled_tokenizer):
    ids = tokens(bundled_tokenizer, ["a cat", "a black cat", ""])
    assert ids.shape == (3, bundled_tokenizer.model_max_length)
    alone = bundled_tokenizer("a black cat").input_ids
    assert longest(ids) == len(alone) + 1
    assert ids[1, : len(alone)].tolist() == alone


@pytest.mark.usefixtures("small_models")
class TestTraining:
    def test_training_resumes_exactly(self, resumes_exactly, bundled_tokenizer):
        resumes_exactly(lambda folder, steps: text_encoder.train(folder, bundled_tokenizer, "cpu", steps))

    def test_an_attribute_is_predicted_by_the_query_of_its_owner(self, bundled_tokenizer):
        torch.manual_seed(0)
        classifier = AttributeClassifier(build(bundled_tokenizer)).eval()
        ids = tokens(bundled_tokenizer, ["a black cat", "a key"])
        before = classifier(ids)
        with torch.no_grad():
            classifier.queries.weight[classifier.owners[all_facts()["cat", "colour", "black"]]] += 1
        changed = (classifier(ids) - before).abs().amax(0) > 1e-6
        assert {whose for fact, index in all_facts().items() for whose in fact[:1] if changed[index]} == {"cat"}

    def test_a_caption_counts_only_if_every_fact_is_found(self, bundled_tokenizer, monkeypatch):
        classifier = AttributeClassifier(build(bundled_tokenizer)).eval()
        assert exact_match_accuracy(classifier, bundled_tokenizer, 4) == 0
        captions = sample_captions(np.random.default_rng(0), 2)
        monkeypatch.setattr(text_encoder, "sample_captions", lambda *_: captions)
        logits = targets(captions) - 0.5
        monkeypatch.setattr(AttributeClassifier, "forward", lambda *_: logits)
        assert exact_match_accuracy(classifier, bundled_tokenizer, 2) == 1
        logits[0, 0] = 0.5 - targets(captions)[0, 0]
        assert exact_match_accuracy(classifier, bundled_tokenizer, 2) == 0.5

    def test_the_loss_falls(self, bundled_tokenizer):
        torch.manual_seed(0)
        classifier = AttributeClassifier(build(bundled_tokenizer))
        optimizer = text_encoder.MuonWithAdamW([(classifier, 1.0)], 0.01, 0.01)
        captions, losses = sample_captions(np.random.default_rng(0), 4), []
        for _ in range(10):
            value = loss(classifier, bundled_tokenizer, captions, np.random.default_rng(0))
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(value.item())
        assert losses[-1] < 0.9 * losses[0]
