"""The outputs of miniclip.hf's processors and models: dtypes, copies, pickles, against transformers'."""

import copy
import pickle

import numpy as np
import pytest
import torch
import transformers

from miniclip.hf.outputs import BatchEncoding, ModelOutput, converter_like


@pytest.mark.parametrize("how", [(torch.bfloat16,), ("cpu", torch.bfloat16), (torch.float16,), ("cpu",), ()], ids=str)
@pytest.mark.parametrize("named", [False, True])
def test_only_floats_get_another_dtype(how, named):
    values = {"input_ids": torch.tensor([[1125]]), "mask": torch.tensor([True]), "pixel_values": torch.rand(2)}
    ours, theirs = BatchEncoding(values), transformers.BatchFeature(dict(values))
    arguments = ((), {"dtype": how[-1]}) if named and how and isinstance(how[-1], torch.dtype) else (how, {})
    assert ours.to(*arguments[0], **arguments[1]) is ours
    theirs.to(*how)
    for name, x in ours.items():
        assert x.dtype == theirs[name].dtype and torch.equal(x, theirs[name])
    assert ours["input_ids"].item() == 1125 and ours["input_ids"].dtype == torch.int64


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_outputs_are_copied_and_pickled(how):
    inner = ModelOutput(pooler_output=np.ones(2), attentions=None)
    again = how(ModelOutput(loss=None, logits=np.arange(3), vision_model_output=inner))
    assert type(again) is ModelOutput and list(again) == ["logits", "vision_model_output"] and again.loss is None
    assert np.array_equal(again[0], np.arange(3)) and np.array_equal(
        again.vision_model_output.pooler_output, np.ones(2)
    )
    with pytest.raises(AttributeError, match="no head, only loss, logits"):
        _ = again.head
    encoding = how(BatchEncoding(input_ids=np.arange(3)))
    assert type(encoding) is BatchEncoding and np.array_equal(encoding.input_ids, np.arange(3))


def test_outputs_are_dictionaries_as_in_transformers():
    output = ModelOutput(loss=None, logits=torch.ones(1, requires_grad=True))
    assert isinstance(output, dict) and dict(output).keys() == {"logits"}
    assert type(output)((name, x) for name, x in output.items()).logits is output.logits  # as torch gathers them
    output.loss = torch.zeros(1)
    assert output["loss"] is output.loss


def test_outputs_are_of_the_kind_of_the_inputs_in_tensorflow_too():
    tf, ops = pytest.importorskip("tensorflow"), pytest.importorskip("miniclip.ops.tensorflow_ops")
    for example in (tf.ones(1), ops.asarray(np.ones(1)), np.ones(1), torch.ones(1)):
        found = converter_like(example, ops)(ops.asarray(np.arange(3)))
        assert type(found) is type(example) and np.array_equal(np.asarray(found), np.arange(3))
