#!/bin/sh
# The gradient of torch.ldexp is 0 wherever the exponent is a negative integer.
#
# Packages: torch 2.13.0 (CPU).
# Expect:   ldexp(x, e) is x · 2^e, so its gradient with respect to x is 2^e, as that of x * 2.0**e.
# Found:    The values are right. The gradient is 2^e for e >= 0 and exactly 0 for e < 0: backward
#           raises 2 to the power of the exponent in integers. With exponents stored as floats, it
#           is right.
# Seen:     values [0.125, 8.0], gradient [0.0, 4.0]
#           float exponents: gradient [0.125, 4.0]
# Matters:  a model that scales by powers of two (block floating point, quantization, a
#           normalisation that cannot overflow) trains without these gradients, and nothing says so.
# Avoid:    x * torch.ldexp(torch.ones_like(x), exponent), or exponent.to(x.dtype).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import torch

exponents = torch.tensor([-3, 2])


def gradient(exponents):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = torch.ldexp(x, exponents)
    y.sum().backward()
    return y.tolist(), x.grad.tolist()


values, found = gradient(exponents)
print(f"values {values}, gradient {found}")
assert values == [0.125, 8.0] and found == [0.0, 4.0]

values, found = gradient(exponents.float())
print(f"float exponents: gradient {found}")
assert values == [0.125, 8.0] and found == [0.125, 4.0]
PYTHON
