"""Whether llama.cpp reads what `underdog export` writes, and what it makes of it.

    for KIND in f16 q8_0 q4_0 q4_1 q4_k_m q6_k; do
        underdog export smollm2-135m-instruct --quantize $KIND --out EXPORTED/$KIND.gguf
    done
    python reference/export_llamacpp.py SmolLM2-135M-Instruct.Q4_1.gguf EXPORTED

Every file of the folder, named by its kind, is opened by llama.cpp and goes through a fixed prompt, as the original
does; the logits after the prompt's last token are compared. Then llama.cpp quantises the original itself, and its
tensors are compared with the file's byte by byte. Prints one JSON object, by name of the file: the file type that
llama.cpp reads, the largest absolute difference of a logit and of the log-probability of a token above 0.001, the
divergence (of the exported from the original, in nats), whether the most probable token is the same, how many tensors
llama.cpp stores as another type, and of those it stores alike how many are the same bytes, by type (K types leave the
choice of scales open). `of_llama_cpp` is the divergence of llama.cpp's own file. Exits with 1 where a file does not
open, cuts text in another way or gives anything but finite numbers.

Needs: llama-cpp-python 0.3.36, gguf 0.19, numpy. Writes nothing but temporary files.
"""

import argparse
import ctypes
import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import llama_cpp.llama
import numpy as np

FILE_TYPES = {"f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q4_k_m": 15, "q6_k": 18}

PROMPT = (
    "<|im_start|>system\nYou read receipts. Answer with one JSON object and nothing else.<|im_end|>\n<|im_start|>user\n"
    "KEDAI MAJU SDN BHD\nINVOICE 00482  DATE 03/05/2018 14:22\nTOTAL RM 33.90\nCASH 50.00  CHANGE 16.10<|im_end|>\n"
    "<|im_start|>assistant\n{\"company\": \"KEDAI MAJU SDN BHD\", ")


def use_plain_buffers():
    """Without the repacked weight buffers: version 0.3.36 crashes with them on processors with AMX."""
    defaults = llama_cpp.llama.llama_cpp.llama_model_default_params

    def plain():
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    llama_cpp.llama.llama_cpp.llama_model_default_params = plain


def open_file(path):
    return llama_cpp.Llama(str(path), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)


def last_logits(model, ids):
    """Float64 logits after the last token."""
    model.reset()
    model.eval(ids)
    # The call gives the logits of the last token of the last batch where only those are kept.
    row = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    return np.ctypeslib.as_array(row, shape=(model.n_vocab(),)).astype(np.float64)


def log_probs(logits):
    top = logits.max()
    return logits - top - np.log(np.exp(logits - top).sum())


def compare(model, ids, want):
    got = last_logits(model, ids)
    if got.shape != want.shape or not np.isfinite(got).all():
        raise SystemExit(f"{model.model_path}: not the logits of this model")
    p, q = log_probs(want), log_probs(got)
    return {"file_type": model.metadata.get("general.file_type"),
            "largest_logit_difference": round(float(np.abs(got - want).max()), 4),
            "largest_log_prob_difference": round(float(np.abs(p - q)[p > np.log(1e-3)].max()), 4),
            "divergence": round(float((np.exp(p) * (p - q)).sum()), 6),
            "same_argmax": bool(got.argmax() == want.argmax())}


def quantise(original, kind, to):
    """As llama.cpp's own tool does."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize, parameters.nthread = FILE_TYPES[kind], True, 1
    if llama_cpp.llama_model_quantize(str(original).encode(), str(to).encode(), ctypes.byref(parameters)):
        raise SystemExit(f"llama.cpp does not quantise {original} to {kind}")


def tensors_of(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(str(path)).tensors}


def compare_bytes(path, own):
    """How many tensors are of another type, and by type [the same bytes, all]."""
    ours, theirs = tensors_of(path), tensors_of(own)
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{path}: other tensors than llama.cpp writes")
    other_type, same = 0, {}
    for name, tensor in ours.items():
        if tensor.tensor_type != theirs[name].tensor_type:
            other_type += 1
            continue
        counts = same.setdefault(tensor.tensor_type.name, [0, 0])
        counts[0] += int(np.array_equal(tensor.data, theirs[name].data))
        counts[1] += 1
    return {"other_type": other_type, "same_bytes": same}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    files = sorted(arguments.folder.glob("*.gguf"))
    if not files:
        raise SystemExit(f"{arguments.folder}: no .gguf files")
    use_plain_buffers()
    original = open_file(arguments.original)
    ids = original.tokenize(PROMPT.encode(), add_bos=False, special=True)
    want = last_logits(original, ids)
    found = {"llama_cpp": llama_cpp.__version__, "tokens": len(ids), "files": {}}
    for path in files:
        try:
            model = open_file(path)
        except ValueError as error:
            raise SystemExit(f"{path}: llama.cpp does not open it: {error}") from error
        if model.tokenize(PROMPT.encode(), add_bos=False, special=True) != ids:
            raise SystemExit(f"{path}: another tokenizer than the original's")
        found["files"][path.stem] = compare(model, ids, want)
        model.close()
        if path.stem in FILE_TYPES:
            with tempfile.TemporaryDirectory() as scratch:
                own = Path(scratch) / "own.gguf"
                quantise(arguments.original, path.stem, own)
                found["files"][path.stem] |= compare_bytes(path, own)
                model = open_file(own)
                found["files"][path.stem]["of_llama_cpp"] = compare(model, ids, want)["divergence"]
                model.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
