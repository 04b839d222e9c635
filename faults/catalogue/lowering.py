"""Faults in putting the operators of a node in its place."""

from __future__ import annotations

from faults.fault import Fault, fault, refused
from faults.injection import Edit

_INLINE = "passes.inlining:inline"
_ADD_STATE = 'add("get_attr", name, ((), {}), short, value)'


def _state(becomes: str) -> Edit:
    return Edit(_INLINE, _ADD_STATE, _ADD_STATE.replace("name", becomes))


FAULTS: tuple[Fault, ...] = (
    fault(
        "the first norm serves twice",
        "lowering",
        _state('name.replace("norm2", "norm1")'),
        "attention_modules_encoder",
    ),
    fault(
        "a norm's bias is its weight",
        "lowering",
        _state('name.replace("norm1.bias", "norm1.weight")'),
        "attention_modules_encoder_prenorm",
    ),
    fault(
        "cross-attention gets the weights of self-attention",
        "lowering",
        _state('name.replace("multihead_attn", "self_attn")'),
        "attention_modules_decoder",
    ),
    fault(
        "keys and values of a learned bias are swapped",
        "lowering",
        _state('name.replace("bias_k", "bias_v")'),
        "attention_modules_bias_kv",
    ),
    refused(
        "operators take their operands in reverse",
        "lowering",
        Edit(
            _INLINE,
            "            env[each] = add(each.op, target, arguments, each.name, value)",
            '            args = arguments[0][::-1] if "sub" in str(target) or "bmm" in str(target) else arguments[0]; env[each] = add(each.op, target, (args, arguments[1]), each.name, value)',
        ),
        "attention_modules",
    ),
    refused(
        "the last operator but one is the result",
        "lowering",
        Edit(
            "passes.inlining:_become",
            "node.target, node.args, node.kwargs = result.target, result.args, result.kwargs",
            "node.target, node.args, node.kwargs = torch.neg, (new[-2],), {}",
        ),
        "attention_modules_wrapped",
    ),
)
