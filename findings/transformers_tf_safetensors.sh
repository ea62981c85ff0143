#!/bin/sh
# transformers' TensorFlow models cannot load the model.safetensors that its PyTorch models save.
#
# Packages: transformers 4.57.6, tensorflow-cpu 2.21.0, tf-keras 2.21.0, torch 2.13.0, safetensors 0.8.0.
# Expect:   TFCLIPModel.from_pretrained reads a directory that CLIPModel has saved, as documented.
# Found:    It raises TypeError: it iterates over an open file of safetensors, which has keys()
#           but cannot be iterated. With from_pt=True it works.
# Seen:     TypeError: 'builtins.safe_open' object is not iterable
#           with from_pt=True: TFCLIPModel
# Matters:  4.57 is the last line of versions with TensorFlow, and most repositories have only
#           model.safetensors.
# Avoid:    from_pt=True
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile transformers==4.57.6 tensorflow-cpu==2.21.0 tf-keras==2.21.0 \
  torch==2.13.0 safetensors==0.8.0
cd "$dir"
"$dir/env/bin/python" - 2>/dev/null <<'PYTHON'
import transformers

sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
text = {**sizes, "vocab_size": 30}
config = transformers.CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 8, "patch_size": 4})
transformers.CLIPModel(config).save_pretrained("m")
try:
    transformers.TFCLIPModel.from_pretrained("m")
except TypeError as error:
    print(f"TypeError: {error}")
    assert "not iterable" in str(error)
else:
    raise AssertionError("it loads")
print("with from_pt=True:", type(transformers.TFCLIPModel.from_pretrained("m", from_pt=True)).__name__)
PYTHON
