// int8 weights as a few bits each: their distinct values, then of each weight whether it is zero,
// its sign, and its place among the values, by models that learn as they go (zero_model.h,
// value_model.h). There are several orders in which a matrix can be walked; the writer tries them.
//
// Reading takes some 0.1 µs a weight that is zero and 0.1 µs more a halving for any other; writing
// some ten times that, for the attempts, which look at the first 2^18 weights alone.
#pragma once

#include <cstdint>

#include "core/status.h"
#include "files/bit_coder.h"

namespace fastmnist {

// `known` are the weights [outputs, inputs]; where `coder` reads, they are `taken`, which is
// written, else that is null.
Status code_weights(BitCoder& coder, const std::int8_t* known, std::int8_t* taken,
                    std::int64_t outputs, std::int64_t inputs);

}  // namespace fastmnist
