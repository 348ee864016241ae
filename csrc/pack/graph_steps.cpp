#include "pack/graph_steps.h"

#include "kernels/sizes.h"
#include "pack/float_panels.h"

namespace fastmnist {
namespace {

constexpr std::size_t kMostOperands = 1024;

bool is_join(StepKind kind) { return kind >= StepKind::kAdd && kind <= StepKind::kDivide; }

}  // namespace

bool works_in_place(StepKind kind) {
  return (kind >= StepKind::kActivate && kind <= StepKind::kDivide) || kind == StepKind::kSoftmax ||
         kind == StepKind::kLogSoftmax || kind == StepKind::kLayerNorm ||
         kind == StepKind::kReshape;
}

bool takes_constants(StepKind kind) { return is_join(kind) || kind == StepKind::kConcat; }

std::string text_of(const ValueSize& size) {
  return std::to_string(size.positions) + " x " + std::to_string(size.width);
}

ValueSize size_of(StepKind kind, const std::vector<ValueSize>& operands, const ValueSize& wanted,
                  std::int64_t begin) {
  constexpr ValueSize kWrong{0, 0};
  const std::size_t count = operands.size();
  if (count != (is_join(kind) ? 2u : 1u) && kind != StepKind::kConcat) return kWrong;
  if (count == 0 || count > kMostOperands) return kWrong;
  const ValueSize& x = operands[0];
  switch (kind) {
    case StepKind::kInt8:
    case StepKind::kFloat:
      return {x.positions, wanted.width};
    case StepKind::kAdd:
    case StepKind::kSubtract:
    case StepKind::kMultiply:
    case StepKind::kDivide:
      return x.all() == operands[1].all() ? wanted.all() == x.all() ? wanted : kWrong : kWrong;
    case StepKind::kConcat: {
      std::int64_t width = 0;
      for (const ValueSize& operand : operands) {
        if (operand.positions != x.positions) return kWrong;
        width += operand.width;
      }
      return {x.positions, width};
    }
    case StepKind::kSlice:
      return begin + wanted.width <= x.width ? ValueSize{x.positions, wanted.width} : kWrong;
    case StepKind::kTranspose:
      return {x.width, x.positions};
    case StepKind::kMean:
      return {1, x.width};
    case StepKind::kSum:
      return {1, x.positions};
    case StepKind::kReshape:
      return x.all() == wanted.all() ? wanted : kWrong;
    case StepKind::kArgMax:
      return {1, x.positions};
    default:
      return x;
  }
}

std::int64_t section_bytes(StepKind kind, const ValueSize& x, std::int64_t outputs,
                           bool has_tables) {
  switch (kind) {
    case StepKind::kInt8:
      return -1;
    case StepKind::kFloat:
      return float_panel_bytes(x.width, outputs) + float_bias_bytes(outputs);
    case StepKind::kSlopes:
      return aligned(x.all() * 4);
    case StepKind::kAffine:
      return 2 * aligned(x.all() * 4);
    case StepKind::kLayerNorm:
      return has_tables ? 2 * aligned(x.width * 4) : 0;
    default:
      return 0;
  }
}

}  // namespace fastmnist
