// Packed graphs: what goes in is found again, values that live at once never share memory, and
// what is no graph is refused.
#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "pack/graph.h"
#include "pack/graph_memory.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

std::int64_t below(Random& random, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high - 1)(random);
}

// ---- memory
// --------------------------------------------------------------------------------------

std::vector<Lifetime> some_lifetimes(Random& random) {
  std::vector<Lifetime> found;
  std::vector<bool> replaced;
  std::int64_t now = -1;
  for (std::int64_t i = below(random, 1, 40); i > 0; --i) {
    now += below(random, 0, 3);
    Lifetime own{below(random, 1, 100), now, now + below(random, 0, 6)};
    for (std::size_t other = 0; other < found.size(); ++other)
      if (found[other].last == now && found[other].first < now && !replaced[other] &&
          below(random, 0, 2) == 0) {
        own.floats = found[other].floats;
        own.instead = static_cast<std::int64_t>(other);
        replaced[other] = true;
        break;
      }
    found.push_back(own);
    replaced.push_back(false);
  }
  return found;
}

TEST(values_that_live_at_once_never_share_memory) {
  Random random(3);
  std::int64_t instead = 0;
  std::int64_t shared = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::vector<Lifetime> lifetimes = some_lifetimes(random);
    const ScratchPlan plan = plan_scratch(lifetimes);
    CHECK(plan.offsets.size() == lifetimes.size());
    std::int64_t all = 0;
    for (std::size_t i = 0; i < lifetimes.size(); ++i) {
      const Lifetime& own = lifetimes[i];
      const std::int64_t begin = plan.offsets[i];
      CHECK(begin >= 0 && begin % 16 == 0);
      CHECK(begin + own.floats <= plan.floats);
      all += (own.floats + 15) / 16 * 16;
      if (own.instead >= 0) {
        ++instead;
        CHECK(begin == plan.offsets[static_cast<std::size_t>(own.instead)]);
      }
      for (std::size_t j = 0; j < i; ++j) {
        const Lifetime& other = lifetimes[j];
        const bool apart =
            begin >= plan.offsets[j] + other.floats || plan.offsets[j] >= begin + own.floats;
        shared += apart ? 0 : 1;
        const bool meets = other.last >= own.first && other.first <= own.last;
        CHECK_IN(std::to_string(round) + ": " + std::to_string(j) + " and " + std::to_string(i),
                 apart || !meets || own.instead == static_cast<std::int64_t>(j));
      }
    }
    CHECK(plan.floats <= all);
  }
  CHECK(instead > 1000 && shared > 1000);  // or else nothing was shown
}

TEST(memory_is_used_again) {
  const ScratchPlan one = plan_scratch({{100, 0, 1}, {100, 1, 2}, {100, 2, 3}, {100, 3, 4}});
  CHECK(one.floats == 2 * 112);
  const ScratchPlan in_place = plan_scratch({{100, 0, 1}, {100, 1, 2, 0}, {100, 2, 3, 1}});
  CHECK(in_place.floats == 112);
  CHECK(plan_scratch({}).floats == 0);
}

// ---- packing
// -------------------------------------------------------------------------------------

// x [2 x 8] -> + constant -> float layer 8 -> 5 (Tanh) -> clamp -> y; x -> mean -> z.
struct Example {
  std::vector<float> constant;
  std::vector<float> weight;
  std::vector<float> bias;
  std::vector<float> table;
  GraphSpec spec;

  Example() {
    Random random(5);
    constant = reals(random, 16, -1.0f, 1.0f);
    weight = reals(random, 40, -1.0f, 1.0f);
    bias = reals(random, 5, -1.0f, 1.0f);
    table = reals(random, 2 * 256, 0.0f, 1.0f);
    spec.values = {{2, 8}, {2, 8, constant.data()}, {2, 8}, {2, 5}, {2, 5}, {1, 8}};
    spec.inputs = {{0, PixelKind::kTable, 2, table.data()}};
    GraphSpec::Step add{StepKind::kAdd, {0, 1}, 2};
    GraphSpec::Step layer{StepKind::kFloat, {2}, 3};
    layer.weight = weight.data();
    layer.bias = bias.data();
    layer.activation = {Function::kTanh, {0, 0, 0}};
    GraphSpec::Step clamp{StepKind::kClamp, {3}, 4};
    clamp.clamp = {-0.5f, 0.75f};
    const GraphSpec::Step mean{StepKind::kMean, {0}, 5};
    spec.steps = {add, layer, clamp, mean};
    spec.outputs = {5, 4};
  }
};

Guarded<std::byte> packed(const GraphSpec& spec, Edge edge = Edge::kLast) {
  const std::vector<std::byte> bytes = check::value(pack_graph(spec));
  return Guarded<std::byte>(std::span<const std::byte>(bytes), edge);
}

TEST(a_packed_graph_is_found_again) {
  const Example example;
  const Guarded<std::byte> bytes = packed(example.spec);
  CHECK(bytes.values().size() % 64 == 0);
  CHECK(is_graph(bytes.values()));
  const GraphView view = check::value(view_graph(bytes.values()));
  CHECK(view.header().bytes == bytes.values().size());
  CHECK(view.values().size() == 6 && view.steps().size() == 4);
  CHECK(view.inputs().size() == 1 && view.outputs().size() == 2);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(view.values()[i].positions == example.spec.values[i].positions);
    CHECK(view.values()[i].width == example.spec.values[i].width);
  }
  const Place places[] = {Place::kInput,   Place::kConstant, Place::kScratch,
                          Place::kScratch, Place::kOutput,   Place::kOutput};
  for (std::size_t i = 0; i < 6; ++i) CHECK(view.values()[i].place == places[i]);
  CHECK(&view.output(0) == &view.values()[5] && &view.output(1) == &view.values()[4]);
  CHECK(&view.input(0) == &view.values()[0]);
  CHECK(!view.gives_indexes(0) && !view.gives_indexes(1));
  const float* constant = view.floats(view.values()[1].offset);
  CHECK(std::equal(example.constant.begin(), example.constant.end(), constant));
  const float* table = view.floats(view.inputs()[0].table);
  CHECK(std::equal(example.table.begin(), example.table.end(), table));
  for (std::size_t i = 0; i < 4; ++i) {
    const StepRecord& step = view.steps()[i];
    const GraphSpec::Step& given = example.spec.steps[i];
    CHECK(step.kind == given.kind && step.value == given.value);
    CHECK(step.operands == given.operands.size());
    CHECK(std::equal(given.operands.begin(), given.operands.end(), view.operands(step).begin()));
    CHECK(step.offset % 64 == 0 && step.bytes % 64 == 0);
  }
  CHECK(view.steps()[1].activation.function == Function::kTanh);
  CHECK(view.steps()[2].clamp.lo == -0.5f && view.steps()[2].clamp.hi == 0.75f);
}

TEST(a_graph_must_be_whole_and_aligned) {
  const Example example;
  const std::vector<std::byte> good = check::value(pack_graph(example.spec));
  const auto refused = [](std::span<const std::byte> bytes) {
    return view_graph(bytes).status().text().starts_with(
        "packed: not a packed graph of this version (");
  };
  for (std::size_t size = 0; size < good.size(); ++size) {
    const std::span<const std::byte> whole(good);
    const Guarded<std::byte> cut(whole.first(size), Edge::kFirst);
    CHECK_IN(std::to_string(size), refused(cut.values()));
  }
  const Guarded<std::byte> room(good.size() + 64, Edge::kFirst);
  std::copy(good.begin(), good.end(), room.data() + 8);
  CHECK(refused(room.values().subspan(8, good.size())));
  std::copy(good.begin(), good.end(), room.data());
  CHECK(refused(room.values()));
  CHECK(view_graph(room.values().first(good.size())).ok());
}

// Every byte of it changed: refused, or every place that it names is inside.
TEST(whatever_is_taken_stays_inside) {
  const Example example;
  const Guarded<std::byte> bytes = packed(example.spec);
  std::int64_t taken = 0;
  for (std::size_t at = 0; at < bytes.values().size(); ++at)
    for (const int flip : {0x01, 0x80, 0xFF}) {
      bytes.data()[at] ^= static_cast<std::byte>(flip);
      const Result<GraphView> view = view_graph(bytes.values());
      if (view.ok()) {
        ++taken;
        for (const ValueRecord& value : view->values()) {
          const auto size = static_cast<std::uint64_t>(value.size());
          if (value.place == Place::kScratch) CHECK(value.offset + size <= view->header().scratch);
          if (value.place == Place::kConstant)
            CHECK(value.offset + size * 4 <= bytes.values().size());
        }
        for (const StepRecord& step : view->steps()) {
          CHECK(step.offset + step.bytes <= bytes.values().size());
          for (const std::uint32_t operand : view->operands(step))
            CHECK(operand < view->values().size());
        }
      }
      bytes.data()[at] ^= static_cast<std::byte>(flip);
    }
  CHECK(taken > 0);
}

// ---- refusals
// ------------------------------------------------------------------------------------

void refuses(const GraphSpec& spec, const char* words) {
  const Status status = pack_graph(spec).status();
  CHECK_IN(status.text() + " / " + words,
           !status.ok() && status.text().find(words) != std::string::npos);
}

TEST(what_cannot_be_packed_is_named) {
  {
    Example e;
    e.spec.steps[1].operands = {3};
    refuses(e.spec, "operands that steps before it give, got 3");
  }
  {
    Example e;
    e.spec.steps[2].value = 3;
    refuses(e.spec, "a value of its own, got 3");
  }
  {
    Example e;
    e.spec.values[5].width = 9;
    refuses(e.spec, "sizes that fit its kind, got 2 x 8 to 1 x 9");
  }
  {
    Example e;
    e.weight[7] = std::numeric_limits<float>::quiet_NaN();
    refuses(e.spec, "finite numbers");
  }
  {
    Example e;
    e.spec.steps[2].clamp = {1.0f, 0.0f};
    refuses(e.spec, "a clamp with lo <= hi");
  }
  {
    Example e;
    e.spec.inputs[0].channels = 3;
    refuses(e.spec, "channels that divide");
  }
  {
    Example e;
    e.spec.inputs[0].pixels = PixelKind::kCodes;
    refuses(e.spec, "an int8 network that takes pixels");
  }
  {
    Example e;
    e.spec.outputs = {5, 5};
    refuses(e.spec, "values that steps give, each once, got 5");
  }
  {
    Example e;
    e.spec.steps[3].kind = StepKind::kArgMax;
    e.spec.values[5] = {1, 2};
    e.spec.outputs = {4};
    refuses(e.spec, "indexes as outputs");
  }
  {
    Example e;
    e.spec.steps[1].activation.function = static_cast<Function>(77);
    refuses(e.spec, "expected");
  }
  {
    Example e;
    e.spec.steps.assign(kMaxSteps + 1, e.spec.steps[0]);
    refuses(e.spec, "1 to 4096");
  }
  {
    Example e;
    e.spec.values[0].positions = std::int64_t{1} << 40;
    refuses(e.spec, "1 to 67108864 numbers a sample");
  }
}

}  // namespace
