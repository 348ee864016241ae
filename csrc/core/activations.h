// Checks for activations from outside, wherever they come from. One that passes turns no number or
// infinity into NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "core/floats.h"
#include "core/status.h"

namespace fastmnist {

inline Result<Activation> checked_activation(std::int64_t function, float p0, float p1, float p2) {
  constexpr auto kLast = static_cast<std::int64_t>(kLastFunction);
  if (function < 0 || function > kLast)
    return Status::invalid("function", "a number from 0 to " + std::to_string(kLast),
                           std::to_string(function));
  const Activation activation = {static_cast<Function>(function), {p0, p1, p2}};
  for (int i = 0; i < 3; ++i)
    if (!std::isfinite(activation.parameters[i]))
      return Status::invalid("p" + std::to_string(i), "a finite float32",
                             std::to_string(activation.parameters[i]));
  if (activation.function == Function::kElu && !(p2 > 0))
    return Status::invalid("p2", "a positive factor of the argument of ELU", std::to_string(p2));
  if (activation.function == Function::kSoftplus && p0 == 0)
    return Status::invalid("p0", "a beta of softplus other than 0", std::to_string(p0));
  return activation;
}

inline Status check_activation(const Activation& activation) {
  const float* p = activation.parameters;
  Result<Activation> checked =
      checked_activation(static_cast<std::int64_t>(activation.function), p[0], p[1], p[2]);
  return checked.ok() ? Status() : std::move(checked).status();
}

}  // namespace fastmnist
