"""`weights: language`: the small text backbone pretrained on generated sentences, once, cached.

It fills gaps in sentences of the source family of the embedded language: no sentence of the data
set `language` is among them. That takes less than a minute on one CPU thread.
"""

from __future__ import annotations

from dataclasses import replace

from bench.data.text.language import GENERATOR_VERSION, source_sentence
from bench.data.text.tokens import tokenise
from bench.errors import WeightsError
from bench.keys import content_hash
from bench.models import Weights, describe_weights
from bench.models.text import language
from bench.suite import Entry, LanguageWeights
from bench.system.cache import cache_lock, cache_root
from bench.system.cache_mirror import fetch_file
from bench.system.download import OnProgress
from bench.training.masked_tokens import PRETRAINING_VERSION, Masking, Recipe, pretrain_masked


def describe_language_weights(backbone: str, recipe: LanguageWeights) -> Weights:
    """The weights as they will be; `path` is where they lie once they are made.

    Raises `WeightsError` for any backbone but `language_tiny`.
    """
    if backbone != language.NAME:
        raise WeightsError(
            f"weights {language.WEIGHTS!r} are those of {language.NAME}, not of {backbone}"
        )
    random = describe_weights(backbone, Entry(name="none"))
    facts = [GENERATOR_VERSION, PRETRAINING_VERSION, recipe.model_dump(), random.fingerprint]
    key = content_hash(facts)
    path = cache_root() / "weights" / language.WEIGHTS / f"{backbone}-{key}.safetensors"
    fetch_file(path)
    return replace(
        random, name=language.WEIGHTS, path=path, fingerprint=f"{language.WEIGHTS}-{key}"
    )


def make_language_weights(
    weights: Weights, recipe: LanguageWeights, *, progress: OnProgress | None
) -> None:
    """Pretrain as `recipe` says and write `weights.path`, unless it is there."""
    from bench.models.network import save_tensors
    from bench.models.randomness import keyed_initialisation
    from bench.models.tensor_files import is_whole
    from bench.models.text.encoder import Encoder, build

    path = weights.path
    assert path is not None, "they were described"
    with cache_lock(path.with_suffix(".lock")):
        if is_whole(path):
            return
        assert weights.tokenizer is not None
        assert weights.described is not None
        sentences = [source_sentence(recipe.language_seed, at) for at in range(recipe.sentences)]
        rows = tokenise(sentences, weights.tokenizer, length=language.LENGTH).ids
        with keyed_initialisation(recipe.language_seed, language.WEIGHTS):
            model = build(weights.described)
        body = model.body
        assert isinstance(body, Encoder)
        mask = language.WORDS.index(language.MASK)
        pretrain_masked(
            body,
            body.word_embeddings,
            rows,
            masking=Masking(mask=mask, first=mask + 1, words=len(language.WORDS)),
            recipe=Recipe(
                epochs=recipe.epochs,
                lr=recipe.lr,
                batch_size=recipe.batch_size,
                seed=recipe.language_seed,
            ),
            on_epoch=lambda done: (
                None
                if progress is None
                else progress(f"pretrain {language.NAME}", done, recipe.epochs)
            ),
        )
        tensors = {f"body.{name}": tensor for name, tensor in body.state_dict().items()}
        save_tensors(tensors, path)
