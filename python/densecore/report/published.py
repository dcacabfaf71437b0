"""What others have published: scores of large models, prices of their APIs and of machines, each with its source.

>>> {reference.set for reference in REFERENCES} == {"gsm8k", "hotpotqa"}
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from densecore.report.record import EXACT

F1 = "f1"
"""The overlap of words of two answers, as SQuAD and HotPotQA score it."""


@dataclass(frozen=True)
class Price:
    """What an API takes, in US dollars a million tokens."""

    input: float
    output: float
    source: str = "set by the user"

    def cost(self, prompt_tokens: float, output_tokens: float) -> float:
        """US dollars."""
        return (self.input * prompt_tokens + self.output * output_tokens) / 1e6


@dataclass(frozen=True)
class Reference:
    """A published score of a large model."""

    model: str
    set: str
    metric: str
    score: float
    """0 to 1."""
    setting: str
    """How it was asked; a run that asks otherwise is compared all the same, so this is shown beside it."""
    source: str
    date: str
    prompt_tokens: float | None = None
    """What the model reads for a question, at the least."""
    output_tokens: float | None = None
    """What it writes."""


_LLAMA_31 = "Llama 3.1 model card (github.com/meta-llama/llama-models, models/llama3_1/MODEL_CARD.md)"
_LLAMA_3 = "Llama 3 model card (github.com/meta-llama/llama3, MODEL_CARD.md)"
_QWEN_25 = "Qwen2.5-LLM blog (github.com/QwenLM/qwenlm.github.io, content/blog/qwen2.5-llm)"
_HIPPO = "Gutiérrez et al., From RAG to Memory (arXiv 2502.14802), table 8"
_SHOTS, _UNSAID = "8 shots, chain of thought", "instruction-tuned, shots not said"
_POOLED = "top 5 of 9,811 pooled passages by NV-Embed-v2, 1,000 questions"

# Mean tokens (Qwen2.5's tokenizer) of 500 GSM8K test questions and their worked solutions; of 556 HotPotQA questions
# with five paragraphs (22 and 5 times 142) and their answers.
_GSM8K, _HOTPOTQA = ("gsm8k", 61, 91), ("hotpotqa", 731, 4)

_PUBLISHED = (
    ("Llama 3.1 70B Instruct", _GSM8K, EXACT, 0.951, _SHOTS, _LLAMA_31, "2024-07-23"),
    ("Llama 3 70B Instruct", _GSM8K, EXACT, 0.930, _SHOTS, _LLAMA_3, "2024-04-18"),
    ("Qwen2.5 72B Instruct", _GSM8K, EXACT, 0.958, _UNSAID, _QWEN_25, "2024-09-18"),
    ("Llama 2 70B Chat", _GSM8K, EXACT, 0.575, _SHOTS, _LLAMA_3, "2024-04-18"),
    ("Llama 3.3 70B Instruct", _HOTPOTQA, EXACT, 0.628, _POOLED, _HIPPO, "2025-02-20"),
    ("Llama 3.3 70B Instruct", _HOTPOTQA, F1, 0.753, _POOLED, _HIPPO, "2025-02-20"),
)
REFERENCES: tuple[Reference, ...] = tuple(
    Reference(model, name, metric, score, setting, source, date, read, written)
    for model, (name, read, written), metric, score, setting, source, date in _PUBLISHED
)
"""The first of a set and a metric is the one a verdict names first."""

_LITELLM = "as listed by LiteLLM (github.com/BerriAI/litellm, model_prices_and_context_window.json at 00035b69)"
LARGE = Price(0.59, 0.79, f"Groq's price of Llama 3.3 70B, {_LITELLM}")
"""For every large model without a price of its own."""
API: Mapping[str, Price] = MappingProxyType({
    "Llama 3.3 70B Instruct": LARGE,
    "Qwen2.5 72B Instruct": Price(0.12, 0.30, f"Hyperbolic's price, {_LITELLM}"),
})  # fmt: skip
THREAD_HOUR = 0.0408
"""US dollars for a hardware thread and hour."""
THREAD_HOUR_SOURCE = (
    "0.0816 USD for two threads, Amazon EC2 m7g.large on demand, us-east-1, as a guide to EC2's prices of June 2026 says "
    "(main.d1m6t5n8e4tvia.amplifyapp.com, amazon-ec2-on-demand-pricing-instance-families-2026)"
)
