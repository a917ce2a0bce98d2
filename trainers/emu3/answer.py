"""Text written by an Emu3 about pictures whose codes stand in the prompt, or about none.

Only the head's rows of text and EOS are computed: a visual id or a mark in an answer can't be. One call of
the model a token; the cache is that of the prompts and the longest answer.
"""

from collections.abc import Sequence

import torch

from trainers.emu3.cached import Cached, padded
from trainers.emu3.choose import Sampling, chances, choose
from trainers.emu3.draw import Language
from trainers.emu3.vocabulary import Vocabulary

GREEDY = Sampling(temperature=0.0)


@torch.inference_mode()
def answer(
    language: Language,
    vocabulary: Vocabulary,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling = GREEDY,
    most: int = 256,
    seeds: Sequence[int] | None = None,
) -> list[list[int]]:
    """The text ids after each prompt, without the EOS that ends them; all prompts one batch.

    At most `most`, and as many as the model's context leaves after the longest prompt. `seeds`: one a prompt.
    Raises ValueError where that is none, and for guidance, which text has not.
    """
    if sampling.guidance != 1:
        raise ValueError(f"guidance {sampling.guidance}: answers have none; leave it out")
    longest = max(map(len, prompts))
    most = min(most, room(longest, language))
    device = language.lm_head.weight.device
    tokens_BN, ahead_B = padded([list(prompt) for prompt in prompts], vocabulary.pad)
    cached = Cached(language.model, ahead_B, longest + most)
    # EOS last, in the place after the text ids
    head_VW = torch.cat(
        [language.lm_head.weight[: vocabulary.text], language.lm_head.weight[vocabulary.eos][None]]
    )
    chance_BN = chances(seeds or [0] * len(prompts), most).to(device)
    tokens_BN = tokens_BN.to(device)
    answers: list[list[int]] = [[] for _ in prompts]
    unfinished = set(range(len(prompts)))
    for place in range(most):
        scores_BV = (cached.append(tokens_BN) @ head_VW.T).float()
        next_B = choose(scores_BV, chance_BN[:, place], sampling)
        for row, token in enumerate(next_B.tolist()):
            if token == vocabulary.text:
                unfinished.discard(row)
            elif row in unfinished:
                answers[row].append(token)
        if not unfinished:
            break
        tokens_BN = next_B.where(next_B != vocabulary.text, vocabulary.eos)[:, None]
    return answers


def room(prompt: int, language: Language) -> int:
    """Tokens that an answer to a prompt of so many may have. Raises ValueError where it may have none."""
    context = language.model.config.max_position_embeddings
    if prompt >= context:
        raise ValueError(
            f"a prompt of {prompt:,} tokens leaves no room in the model's context of {context:,}: give a "
            "smaller picture or a shorter prompt"
        )
    return context - prompt
