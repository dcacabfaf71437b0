"""The path of densecore on a real Qwen: text, tokens, vectors, hidden states, latent steps, text.

python examples/demo.py [--model NAME_OR_PATH] [--threads N]
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

import densecore
from densecore import Ids

QUESTION = (
    "A baker makes 12 trays of 8 rolls. She sells 70 rolls and packs the rest into bags of 2. How many bags are there?"
)
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str) -> str:
    """Colour where a terminal shows it and nobody said no."""
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def title(number: int, text: str, call: str) -> None:
    """A heading: what happens, and the call that does it."""
    print(f"\n{paint(f'{number}. {text}', '1;36')}  {paint(call, '2')}", flush=True)


def show(vectors: densecore.Hidden, rows: int = 3) -> None:
    """The first components of the first rows."""
    for row in np.asarray(vectors)[:rows]:
        print("     [" + " ".join(f"{value:+.3f}" for value in row[:6]) + " ...]")
    if len(vectors) > rows:
        print(f"     ... {len(vectors) - rows} more rows")


def from_text_to_vectors(model: densecore.Model, text: str) -> densecore.Hidden:
    """text -> tokens -> embeddings."""
    title(1, "Text becomes tokens, tokens become vectors", "model.embed(text)")
    ids = model.tokenize(text)
    print(f"   {text!r}")
    print(f"   {len(ids)} tokens: " + " ".join(repr(model.detokenize([number])) for number in ids))
    vectors = model.embed(text)
    print(f"   {vectors.shape[0]} x {vectors.shape[1]} {vectors.dtype}, {vectors.space} space, no copy into NumPy:")
    show(vectors)
    return vectors


def from_vectors_to_text(model: densecore.Model, text: str, vectors: densecore.Hidden) -> None:
    """Embeddings are a prompt like any other."""
    title(2, "The vectors alone are a prompt", "model.decode(vectors)")
    print(f"   {text}{paint(model.decode(vectors, max_tokens=12), '32')}")


def read_states(model: densecore.Model, text: str) -> None:
    """What each position's final state would say next."""
    title(3, "Every position's final state, read out", "model.readout(model.encode(text))")
    states = model.encode(text)
    read = model.readout(states, top_k=3)
    for number, tokens, chances in zip(model.tokenize(text), read.tokens, read.probabilities, strict=True):
        best = ", ".join(f"{token!r} {chance:.0%}" for token, chance in zip(tokens, chances, strict=True))
        print(f"   after {model.detokenize([number])!r:12} {best}")
    middle = model.config.layers // 2
    print(f"   states of any layer, too: layer {middle} is {model.encode(text, layer=middle).shape}")


def think_then_answer(model: densecore.Model) -> densecore.Usage:
    """Steps in vector space, nothing printed, then only the answer."""
    title(4, "A latent think: steps without a token", "context.think(steps)")
    how = "Solve the problem step by step. End with the final answer on its own line in the form '#### <number>'."
    asked = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"{QUESTION}\n\n{how}"},
    ]
    print(f"   {QUESTION}")
    prompt = model.apply_chat_template(asked) + "Step 1:"
    thought = model.prefill(Ids(model.tokenize(prompt, special=True))).think(300, stop=["####"])
    usage = thought.usage
    print(f"   {usage.latent_steps} latent steps, {usage.emitted_tokens} tokens emitted; the last vectors:")
    show(thought.vectors[-2:])
    context = thought.context
    context.extend("\n#### ")
    answer = context.generate(max_tokens=8, stop=["\n"])
    print(f"   answer: {paint(answer.text.strip(), '1;32')}  ({answer.usage.emitted_tokens} tokens emitted)")
    return usage


def stream_an_answer(model: densecore.Model) -> densecore.Usage:
    """The same question in text, as it comes."""
    title(5, "The same in text, streamed", "model.stream(messages)")
    stream = model.stream([{"role": "user", "content": QUESTION + " Be brief."}], max_tokens=220)
    sys.stdout.write("   ")
    for event in stream:
        sys.stdout.write(paint(event.text.replace("\n", "\n   "), "32"))
        sys.stdout.flush()
    print()
    return stream.result().usage


def main() -> None:
    """Load, walk the path, say what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct", help="catalogue name, hub id or local path")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; as many as the machine gives without")
    options = parser.parse_args()
    started = time.perf_counter()
    model = densecore.Model.load(options.model, backend=densecore.CPU(threads=options.threads), context=2048)
    config = model.config
    print(paint(f"{model.name}", "1"), f"loaded in {time.perf_counter() - started:.1f} s:", end=" ")
    print(
        f"{config.arch}, {config.layers} layers, {config.width} wide, {config.vocab} tokens, fingerprint {model.fingerprint}"
    )
    text = "The capital of France is Paris, and the capital of Japan is"
    vectors = from_text_to_vectors(model, text)
    from_vectors_to_text(model, text, vectors)
    read_states(model, "The capital of France is")
    latent = think_then_answer(model)
    spoken = stream_an_answer(model)
    title(6, "What it cost", "result.usage")
    for name, usage in (("latent think", latent), ("streamed answer", spoken)):
        print(
            f"   {name:16} prompt {usage.prompt_tokens:4}  positions {usage.positions:4}  {usage.seconds:5.1f} s"
            f"  latent {usage.latent_steps:4} ({usage.latent_steps / usage.seconds:4.1f}/s)"
            f"  emitted {usage.emitted_tokens:4} ({usage.emitted_tokens / usage.seconds:4.1f}/s)"
        )
    print(f"   whole demo: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
