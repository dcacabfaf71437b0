"""Small files of benchmark rows, made up, in the shapes of the public ones."""

from __future__ import annotations

import json


def write(root, name, rows):
    """Rows as JSON Lines: objects, or lines as they are to stand."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return root


def problem(number):
    return {
        "question": f"What is {number} + 0?",
        "answer": f"{number} + 0 = <<{number}+0={number}>>{number}\n#### {number}",
    }


HOTPOT = {
    "id": "h1",
    "question": " Which town is older? ",
    "answer": "Rome",
    "type": "comparison",
    "level": "hard",
    "supporting_facts": [["Rome", 0], ["Rome", 1], ["Oslo", 0]],
    "context": [["Rome", ["Rome is old.", " Very old."]], ["Oslo", ["Oslo is younger."]], ["Lima", ["Lima is far."]]],
}
SQUAD = {
    "id": "s1",
    "title": "Old_Town",
    "context": "Rome was founded in 753 BC.",
    "question": "When was Rome founded?",
    "answers": ["753 BC", "in 753 BC", "753 BC"],
}
SVAMP = {
    "id": "chal-1",
    "question": "Ann has 5 pens. How many are left?",
    "answer": "5.0",
    "equation": "( 5.0 - 0.0 )",
    "type": "Subtraction",
}
FILES = {
    "gsm8k": ("gsm8k/dev500.jsonl", "dev", problem(1)),
    "hotpotqa": ("hotpotqa/dev_distractor_ctx.jsonl", "dev", HOTPOT),
    "squad": ("squad/squad_dev.jsonl", "dev", SQUAD),
    "svamp": ("math/svamp.jsonl", "all", SVAMP),
}
