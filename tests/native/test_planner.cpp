// Plans without Python: measured once, written, and without the forms that nobody reads.
#include <algorithm>
#include <cstring>

#include "check.h"
#include "runtime/candidates.h"
#include "runtime/executor.h"
#include "runtime/plan.h"
#include "runtime/plan_writer.h"
#include "runtime/planner.h"
#include "runtime/scratch.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

const KernelTable& kernels() { return *check::value(active_kernels()); }

// 200 -> 70 -> 10, nine of ten weights zero, in every form that a kernel may read.
struct Network {
  std::vector<Layer> layers;
  std::vector<std::uint8_t> zeros;
  ScratchLease memory;  // aligned as models are
  std::size_t size;

  static NetworkSpec spec(const std::vector<Layer>& layers,
                          const std::vector<std::uint8_t>& zeros) {
    NetworkSpec made;
    for (const Layer& layer : layers) {
      made.layers.push_back(layer.canonical());
      made.forms.emplace_back();
      for (const WeightForm form : readable_forms(kernels()))
        if (can_have(form, layer.canonical()))
          made.forms.back().push_back(size_in(form, layer.canonical()));
    }
    made.layers[0].input_zeros = zeros.data();
    made.pixels = PixelKind::kCodes;
    return made;
  }

  explicit Network(Random& random)
      : layers{sparse(random, 200, 70), sparse(random, 70, 10)},
        zeros(200, 204),
        memory(nullptr, check::value(packed_network_bytes(spec(layers, zeros)))),
        size(static_cast<std::size_t>(check::value(packed_network_bytes(spec(layers, zeros))))) {
    check::ok(pack_network(spec(layers, zeros), bytes()));
  }

  static Layer sparse(Random& random, std::int64_t k, std::int64_t n) {
    Layer layer(random, k, n);
    layer.x_quantizer = make_quantizer(0.01f, 0);
    if (k > n * 2) layer.draw_of_few_values(random);
    for (std::int8_t& weight : layer.weight)
      if (integer(random, 0, 9) != 0) weight = 0;
    return layer;
  }

  std::span<std::byte> bytes() const { return {memory.get(), size}; }

  std::vector<float> run(const std::vector<std::uint8_t>& pixels) const {
    const auto rows = static_cast<std::int64_t>(pixels.size()) / 200;
    std::vector<float> logits(static_cast<std::size_t>(rows * 10));
    check::ok(run_network(check::value(view_network(bytes())),
                          {RowType::kPixels, pixels.data(), rows}, logits.data()));
    return logits;
  }
};

std::string plan_text(const NetworkView& network) {
  std::string text;
  const PlanView plan(kernels(), network);
  for (std::int64_t i = 0; i < network.layers(); ++i)
    for (const std::int64_t rows : kRowsOfClass)
      text += name_of(plan.kernel(i, shape_of(network, i, rows))) + ", ";
  return text + std::to_string(plan.block_rows());
}

// What is not there makes a run take the plain kernel in a planned one's place, for the same bits.
TEST(a_plan_says_all_that_its_kernels_need) {
  const std::string before = kernels().name;
  Random random(9);
  for (const Rung& rung : runnable()) {
    check::value(set_active_kernels(rung.name));
    const Network network(random);
    const NetworkView view = check::value(view_network(network.bytes()));
    for (int trial = 0; trial < 50; ++trial) {
      std::vector<int> one, many;
      for (std::int64_t i = 0; i < view.layers(); ++i)
        for (const std::int64_t rows : kRowsOfClass)
          for (std::vector<int>* choices : {&one, &many}) {
            const std::vector<int> all = candidates_of(kernels(), view, i, shape_of(view, i, rows));
            choices->push_back(all[static_cast<std::size_t>(
                integer(random, 0, static_cast<std::int64_t>(all.size()) - 1))]);
          }
      check::ok(write_plan(kernels(), one, many, 96, network.bytes()));
      const PlanView plan(kernels(), view);
      for (const bool threaded : {false, true}) {
        const std::int64_t most = integer(random, 1, 200);
        const PlanView::Needs needs = plan.needs(most, threaded);
        for (std::int64_t rows = 1; rows <= most; ++rows)
          for (std::int64_t i = 0; i < view.layers(); ++i) {
            const LinearShape shape = shape_of(view, i, rows);
            const LinearKernel& kernel = plan.kernel(i, shape, threaded);
            CHECK_IN(name_of(kernel), kernel.unit == nullptr || kernel.unit == needs.unit);
            CHECK_IN(name_of(kernel), scratch_bytes(kernel, shape) <= needs.scratch_bytes);
          }
      }
    }
  }
  check::value(set_active_kernels(before));
}

TEST(the_rule_written_down_is_the_rule) {
  Random random(10);
  const Network network(random);
  const NetworkView view = check::value(view_network(network.bytes()));
  const std::string asked = plan_text(view);
  check::ok(write_ruled_plan(kernels(), network.bytes()));
  CHECK(view.header().plan_isa != 0);
  CHECK(plan_text(view) == asked);
}

TEST(a_plan_is_measured_once_and_changes_no_answer) {
  Random random(3);
  const Network network(random);
  const std::vector<std::uint8_t> pixels = integers<std::uint8_t>(random, 150 * 200, 0, 255);
  const std::vector<float> ruled = network.run(pixels);
  Measurements known;
  check::ok(plan_network(kernels(), network.bytes(), known, 1));
  const std::int64_t measured = known.added();
  CHECK(measured >= (kernels().linear_count > 1 ? 3 : 1));
  CHECK(network.run(pixels) == ruled);
  Random again(3);
  const Network second(again);
  check::ok(plan_network(kernels(), second.bytes(), known, 1));
  CHECK(known.added() == measured);
  CHECK(plan_text(check::value(view_network(second.bytes()))) ==
        plan_text(check::value(view_network(network.bytes()))));
}

TEST(a_plan_for_threads_changes_no_answer) {
  Random random(4);
  const Network network(random);
  const std::vector<std::uint8_t> pixels = integers<std::uint8_t>(random, 150 * 200, 0, 255);
  const std::vector<float> ruled = network.run(pixels);
  Measurements known;
  check::ok(plan_network(kernels(), network.bytes(), known, 2));
  CHECK(network.run(pixels) == ruled);
}

TEST(forms_that_no_kernel_reads_are_dropped) {
  Random random(5);
  const Network network(random);
  const std::vector<std::uint8_t> pixels = integers<std::uint8_t>(random, 100 * 200, 0, 255);
  const std::vector<float> expected = network.run(pixels);
  // Dense kernels only: the first takes any shape.
  const std::vector<int> dense(2 * kRowClasses, 0);
  check::ok(write_plan(kernels(), dense, {}, 64, network.bytes()));
  const std::string before = plan_text(check::value(view_network(network.bytes())));
  Random again(5);
  Network smaller(again);
  std::memcpy(smaller.bytes().data(), network.bytes().data(), network.size);
  smaller.size = check::value(drop_unused_forms(kernels(), smaller.bytes()));
  CHECK((smaller.size < network.size) == !readable_forms(kernels()).empty());
  const NetworkView view = check::value(view_network(smaller.bytes()));
  CHECK(plan_text(view) == before);
  for (std::int64_t i = 0; i < 2; ++i)
    for (int form = 0; form < kWeightForms; ++form)
      CHECK(view.has_form(i, static_cast<WeightForm>(form)) == (form == 0));
  CHECK(std::ranges::equal(view.input_zeros(0), network.zeros));
  CHECK(smaller.run(pixels) == expected);
  CHECK(check::value(drop_unused_forms(kernels(), smaller.bytes())) == smaller.size);
}

TEST(layers_without_a_name_in_common_have_keys_of_their_own) {
  Random random(6);
  const Network network(random);
  const NetworkView view = check::value(view_network(network.bytes()));
  CHECK(layer_key(view, 0) == "200x70 codes");
  CHECK(layer_key(view, 1) == "70x10");
  CHECK(machine_name(kernels()).find('\n') == std::string::npos);
}

TEST(remembered_times_name_the_kernels_that_they_are_of) {
  Random random(7);
  const Network network(random);
  const NetworkView view = check::value(view_network(network.bytes()));
  Measurements known;
  const std::vector<KernelTime> times = check::value(layer_times(kernels(), view, 0, known));
  const std::vector<KernelTime> again = check::value(layer_times(kernels(), view, 0, known));
  CHECK(known.added() == 1);
  CHECK(times.size() == again.size());
  std::size_t at = 0;
  for (const std::int64_t rows : kRowsOfClass)
    for (const int kernel : candidates_of(kernels(), view, 0, shape_of(view, 0, rows))) {
      CHECK(times[at].rows == rows && times[at].kernel == kernel && times[at].seconds > 0);
      CHECK(again[at].kernel == kernel && again[at].seconds == times[at].seconds);
      ++at;
    }
  CHECK(at == times.size());
}

}  // namespace
