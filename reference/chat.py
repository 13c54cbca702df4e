"""Chat prompts as transformers renders them: crates/testkit/goldens/chat/prompts.json.

    python reference/chat.py WEIGHTS      # the model cache, for SmolLM2's own template

The templates in crates/testkit/goldens/chat are ours; they use what the templates of the Qwen 3 and Llama 3 families
use, and what is easy to get wrong (white space around blocks, loop controls, JSON). Gemma's is the built-in one.
"""

import sys
from pathlib import Path

import common
import gguf
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "crates/testkit/goldens/chat"


def turns(*contents, system=None):
    roles = ["user", "assistant"]
    lead = [] if system is None else [{"role": "system", "content": system}]
    return lead + [{"role": roles[index % 2], "content": text} for index, text in enumerate(contents)]


CONVERSATIONS = [
    turns("Hello"),
    turns("Hello", system="Be brief."),
    turns("What is 2+2?", "4", "And 3+3?"),
    turns("a", "b", "c", "d", system="You are a bot.\nTwo lines."),
    turns("Hello", "Hi there"),
    turns("Hello", "<think>\nwell\n</think>\n\nHi there", "again", "<think>\nhm\n</think>\n\nyes"),
    turns("", "", ""),
    turns("x", system=""),
    turns("  spaces before and after  \n", "\n\ntrailing newlines\n\n", "\ttab\t"),
    turns("Grüße 漢字 👩‍👩‍👧‍👦 \u200f\u05e9\u05dc\u05d5\u05dd \ufffd \u2028 end", "\"quotes\" 'single' <b>&amp;</b> \\n \\ /", "ok \x01\x7f"),
    turns("{{ not_a_variable }} {% if x %} {# no #}", "<|im_end|><end_of_turn><|eot_id|>"),
    turns("<tool_result>1</tool_result>", "fine"),
    [{"role": "system", "content": "alone"}],
    [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "ok"}],
    [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
    [{"role": "user", "content": "a"}, {"role": "system", "content": "late"}, {"role": "user", "content": "b"}],
    [],
]


def render(source, conversation, add, tokens):
    try:
        (text,), _ = render_jinja_template([conversation], chat_template=source, add_generation_prompt=add, **tokens)
        return text
    except Exception as error:  # a template may refuse a conversation; then ours must too
        print(type(error).__name__, error, file=sys.stderr)
        return None


def main():
    weights = Path(sys.argv[1]) / "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"
    smollm2 = gguf.GGUFReader(weights).fields["tokenizer.chat_template"].contents()
    # headers.jinja asks whether there is a clock. Ours has none, so that a prompt never changes by the day; here the
    # day is fixed to what the template then takes.
    templates = {
        "smollm2-135m-instruct": (None, smollm2, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}),
        "gemma3": ("built-in", (ROOT / "crates/model/src/gemma3.jinja").read_text(), {"bos_token": "<bos>", "eos_token": "<eos>"}),
        "thinking": ("thinking.jinja", None, {"eos_token": "<|im_end|>"}),
        "headers": ("headers.jinja", None, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "day": "1 May 2025"}),
        "layout": ("layout.jinja", None, {}),
    }
    result = {}
    for name, (file, source, tokens) in templates.items():
        source = source if source is not None else (OUT / file).read_text()
        prompts = [[render(source, messages, add, tokens) for add in (False, True)] for messages in CONVERSATIONS]
        result[name] = {"bos": tokens.get("bos_token"), "eos": tokens.get("eos_token"), "prompts": prompts}
    common.write_json(OUT / "prompts.json", {"conversations": CONVERSATIONS, "templates": result})


if __name__ == "__main__":
    main()
