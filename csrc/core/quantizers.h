// Quantizers that somebody handed in: checked here, whichever way they came.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/arithmetic.h"
#include "core/errors.h"
#include "core/types.h"

namespace fastmnist {

// A weight's scale may be subnormal (FLT_TRUE_MIN), an activation's may not.
inline void check_scale(const std::string& name, double scale, float smallest = FLT_MIN) {
  const auto value = static_cast<float>(scale);
  if (std::isfinite(value) && value >= smallest) return;
  invalid(name,
          smallest < FLT_MIN ? "a finite, positive number" : "a finite, normal, positive number",
          number_text(scale));
}

inline void check_zero_point(const std::string& name, std::int64_t zero_point) {
  if (zero_point < 0 || zero_point > 255) invalid(name, "0 to 255", std::to_string(zero_point));
}

inline Quantizer checked_quantizer(double scale, std::int64_t zero_point) {
  check_scale("scale", scale);
  check_zero_point("zero_point", zero_point);
  return make_quantizer(static_cast<float>(scale), static_cast<std::int32_t>(zero_point));
}

}  // namespace fastmnist
