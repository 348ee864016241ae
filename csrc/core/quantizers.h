// Checks for quantizers from outside, wherever they come from.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/arithmetic.h"
#include "core/status.h"
#include "core/types.h"

namespace fastmnist {

// A weight's scale may be subnormal (FLT_TRUE_MIN), an activation's may not.
inline Status check_scale(const std::string& name, double scale, float smallest = FLT_MIN) {
  const auto value = static_cast<float>(scale);
  if (std::isfinite(value) && value >= smallest) return {};
  return Status::invalid(
      name, smallest < FLT_MIN ? "a finite, positive number" : "a finite, normal, positive number",
      number_text(scale));
}

inline Status check_zero_point(const std::string& name, std::int64_t zero_point) {
  if (zero_point >= 0 && zero_point <= 255) return {};
  return Status::invalid(name, "0 to 255", std::to_string(zero_point));
}

inline Result<Quantizer> checked_quantizer(double scale, std::int64_t zero_point) {
  if (Status bad = check_scale("scale", scale); !bad.ok()) return bad;
  if (Status bad = check_zero_point("zero_point", zero_point); !bad.ok()) return bad;
  return make_quantizer(static_cast<float>(scale), static_cast<std::int32_t>(zero_point));
}

}  // namespace fastmnist
