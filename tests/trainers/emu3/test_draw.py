"""Drawing: every picture is well formed, as transformers draws it, and the same whatever is beside it."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_painter import CAPTIONS, LAYOUTS, VOCABULARY, language, wanted

from infinity_mm.progress import Progress
from trainers.emu3.cached import Cached, padded
from trainers.emu3.choose import Sampling
from trainers.emu3.draw import Grid, Wanted, draw, marks
from trainers.emu3.layouts import Visual

PICTURE, CLIP = Grid(1, 3, 4), Grid(2, 3, 2)
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def model() -> Any:
    return language()


def read(picture: Wanted, ids: np.ndarray) -> Visual:
    """The picture of a sequence, as the layouts read it."""
    visual = LAYOUTS.parse_image([*picture.prompt, *ids.tolist()]).visual
    assert visual.grid == picture.grid
    return visual


def test_a_thousand_of_a_thousand_pictures_are_well_formed(model: Any) -> None:
    grids = [PICTURE, CLIP, Grid(1, 1, 1), Grid(1, 4, 3)]
    asked = [wanted(CAPTIONS[n % 3], grids[n % 4], seed=n) for n in range(1000)]
    sampling = Sampling(guidance=3.0, temperature=4.0, top_k=40, top_p=0.98)
    drawn = draw(model, VOCABULARY, asked, sampling, batch=100)
    pictures = [read(picture, ids) for picture, ids in zip(asked, drawn, strict=True)]
    assert len({picture.codes.tobytes() for picture in pictures if picture.grid == PICTURE}) > 240
    assert {int(code) for picture in pictures for code in picture.codes.flat} == set(range(48))


def test_marks_are_those_of_the_layout() -> None:
    for grid in (PICTURE, CLIP, Grid(1, 1, 1), Grid(3, 1, 2)):
        ids = LAYOUTS.image("", Visual(np.zeros(grid, np.int32), 8.0)).ids[-grid.tokens :]
        assert [i for after in marks(grid, VOCABULARY) for i in (VOCABULARY.visual, *after)] == ids.tolist()


def by_transformers(model: Any, picture: Wanted, sampling: Sampling, grid: Grid) -> list[int]:
    """The same picture by `generate`, held to the grid by a function of the ids, as in Emu3's code."""
    start, codes = len(picture.prompt), list(range(VOCABULARY.visual, VOCABULARY.visual + 48))
    order = [[i] if i else codes for after in marks(grid, VOCABULARY) for i in (0, *after)]
    found = model.generate(
        torch.tensor([picture.prompt]),
        attention_mask=torch.ones(1, start, dtype=torch.long),
        max_new_tokens=grid.tokens,
        do_sample=False,
        guidance_scale=sampling.guidance,
        negative_prompt_ids=torch.tensor([picture.bare]),
        negative_prompt_attention_mask=torch.ones(1, len(picture.bare), dtype=torch.long),
        prefix_allowed_tokens_fn=lambda _, ids: order[len(ids) - start],
    )
    return [int(i) for i in found[0, start:]]


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_greedy_pictures_are_those_of_transformers(model: Any, guidance: float) -> None:
    asked = [wanted(caption, grid) for caption in CAPTIONS for grid in (PICTURE, CLIP)]
    sampling = Sampling(temperature=0.0, guidance=guidance)
    drawn = draw(model, VOCABULARY, asked, sampling)
    for picture, ids in zip(asked, drawn, strict=True):
        assert ids.tolist() == by_transformers(model, picture, sampling, picture.grid)
    assert len({ids.tobytes() for ids in drawn}) >= (6 if guidance == 1 else 5)


@torch.no_grad()
def test_rows_of_a_batch_are_those_of_the_whole_model(model: Any) -> None:
    prompts = [list(wanted(caption, PICTURE).prompt) for caption in CAPTIONS]
    more = torch.randint(VOCABULARY.size, (len(prompts), 4), generator=torch.Generator().manual_seed(0))
    rows, ahead = padded(prompts, VOCABULARY.pad)
    assert len(set(ahead.tolist())) > 2
    cached = Cached(model.model, ahead, rows.shape[1] + 4)
    made = [cached.append(rows), cached.append(more[:, :1]), cached.append(more[:, 1:])]
    for row, prompt in enumerate(prompts):
        whole = model(torch.tensor([[*prompt, *more[row].tolist()]])).logits[0]
        for hidden, place in zip(made, (len(prompt) - 1, len(prompt), len(prompt) + 3), strict=True):
            torch.testing.assert_close(model.lm_head(hidden[row]), whole[place], atol=1e-5, rtol=1e-5)


def test_a_picture_does_not_depend_on_its_neighbours(model: Any) -> None:
    asked = [wanted(caption, PICTURE, seed) for seed, caption in enumerate(CAPTIONS)]
    sampling = Sampling(guidance=2.0, top_p=0.9)
    together = draw(model, VOCABULARY, asked, sampling)
    for batch, order in ((1, [0, 1, 2, 3]), (3, [2, 0, 3, 1])):
        drawn = draw(model, VOCABULARY, [asked[n] for n in order], sampling, batch=batch)
        assert [ids.tolist() for ids in drawn] == [together[n].tolist() for n in order]


def test_a_seed_draws_the_same_and_another_does_not(model: Any) -> None:
    first, again, other = draw(
        model, VOCABULARY, [wanted(CAPTIONS[1], PICTURE, seed) for seed in (3, 3, 4)], Sampling()
    )
    assert first.tolist() == again.tolist() != other.tolist()


def test_guidance_of_one_is_none_and_more_leads_away(model: Any) -> None:
    asked = [wanted(caption, PICTURE, 5) for caption in CAPTIONS[1:]]
    bare = [picture._replace(bare=picture.prompt) for picture in asked]
    plain = [ids.tolist() for ids in draw(model, VOCABULARY, asked, Sampling())]
    # with nothing to lead away from, guidance changes nothing
    assert [ids.tolist() for ids in draw(model, VOCABULARY, bare, Sampling(guidance=3.0))] == plain
    assert [ids.tolist() for ids in draw(model, VOCABULARY, asked, Sampling(guidance=3.0))] != plain
    # guidance 0 draws without the caption
    none = [picture._replace(prompt=picture.bare) for picture in asked]
    assert [i.tolist() for i in draw(model, VOCABULARY, asked, Sampling(guidance=0.0))] == [
        i.tolist() for i in draw(model, VOCABULARY, none, Sampling())
    ]


def test_what_does_not_fit_the_context_is_told_before_drawing(model: Any) -> None:
    with pytest.raises(
        ValueError, match=r"picture of 273 \(15×17 codes\) do not fit the model's context of 256"
    ):
        draw(model, VOCABULARY, [wanted("A star.", Grid(1, 15, 17))], GREEDY)


def test_progress_counts_codes(model: Any) -> None:
    seen = Progress(quiet=True)
    draw(model, VOCABULARY, [wanted("", PICTURE), wanted("", CLIP)], GREEDY, progress=seen)
    assert seen._count == seen._total == 24
