"""Runtimes join the nodes of exported models to larger ones, which are counted here in what they compute."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import re
from collections import Counter

import pytest
from exports import exported, onnx, onnxruntime, openvino_ops  # noqa: F401

from miniclip import checkpoints
from miniclip.towers import bert, siglip_image

OUTSIDE = {"vision_model": ("ln_pre", "ln_post"), "text_model": ("ln_final or ln_embed",)}  # norms outside of blocks


def nodes_of_onnxruntime(path, folder):
    """{kind: number} of the nodes that ONNX Runtime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def nodes_of_openvino(path):
    """[(kind, the nodes of the file that are in it)] of those that OpenVINO makes of a file."""
    model = openvino_ops.core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).get_runtime_model()
    infos = [node.get_rt_info() for node in model.get_ops()]
    return [(info["layerType"].value, info["originalLayersNames"].value) for info in infos]


def transformers_in(exported):
    """{file: configuration} of the towers that are transformers."""
    config = checkpoints.load(exported.source)[0]
    towers = {"vision_model": config.visual, "text_model": config.text}
    return {name: tower for name, tower in towers.items() if hasattr(tower, "mlp_width")}


def attentions(tower):
    """How many attentions, each before an MLP, a tower has: one a block, and SigLIP's pooling of patches."""
    return tower.layers + (tower.tower is siglip_image)


def outside(name, tower):
    """How many norms are outside of blocks; AltCLIP's head has one."""
    return len(OUTSIDE[name]) + (getattr(tower, "head", None) == "norm")


def test_onnx_runtime_joins_activations_scales_and_layer_norms(exported, tmp_path):
    for name, tower in transformers_in(exported).items():
        found = nodes_of_onnxruntime(exported.folder / "onnx" / f"{name}.onnx", tmp_path)
        activations = {kind: found[kind] for kind in ("QuickGelu", "Gelu", "BiasGelu", "Sigmoid", "Tanh", "Erf")}
        assert sum(activations.values()) == attentions(tower) == found["Softmax"]
        assert found["Sigmoid"] == found["Erf"] == 0
        assert found["FusedMatMul"] >= tower.layers  # queries, scaled, by keys
        # one for each half of a block; and of pictures two, of texts one before or after all blocks
        norms = {kind: found[kind] for kind in ("LayerNormalization", "SkipLayerNormalization")}
        assert sum(norms.values()) == 2 * tower.layers + outside(name, tower)
        if tower.tower is bert:  # its sums are used by nothing except the norms
            assert found["SkipLayerNormalization"] == 2 * tower.layers


def test_openvino_joins_attention_and_activations(exported):
    for name, tower in transformers_in(exported).items():
        found = nodes_of_openvino(exported.folder / "onnx" / f"{name}.onnx")
        kinds = Counter(kind for kind, _ in found)
        attention = [nodes for kind, nodes in found if kind == "Subgraph" and "Softmax" in nodes and "MatMul" in nodes]
        assert len(attention) == attentions(tower)
        assert kinds["Softmax"] == kinds["MatMul"] == 0  # all of both are in those
        assert kinds["MVN"] == 2 * tower.layers + outside(name, tower)  # layer norms
        # the products before them compute the activations; what is left is the mask of CLIP's texts, the positions of
        # an XLM-RoBERTa, and SigLIP's probe, repeated for each picture
        alone = [nodes for kind, nodes in found if kind == "Eltwise" and re.search("Sigmoid|Gelu|Mul_", nodes)]
        before_all = name == "text_model" and (tower.causal or getattr(tower, "first_position", 0) > 0)
        assert len(alone) == before_all + (tower.tower is siglip_image)


def test_convolutions_have_their_activations(exported, tmp_path):
    path = exported.folder / "onnx" / "vision_model.onnx"
    before = Counter(node.op_type for node in onnx.load(path).graph.node)
    if before["Conv"] == 1:
        pytest.skip("a Vision Transformer")
    found = nodes_of_onnxruntime(path, tmp_path)
    assert found["Conv"] == before["Conv"] and found["Relu"] == 0
    assert found["QuickGelu"] == before["Sigmoid"] and found["Sigmoid"] == 0
    alone = [nodes for kind, nodes in nodes_of_openvino(path) if kind == "Eltwise" and "Sigmoid" in nodes]
    assert alone == []
