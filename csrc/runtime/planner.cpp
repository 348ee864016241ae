#include "runtime/planner.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>

#include "core/caches.h"
#include "core/cpu.h"
#include "kernels/tables.h"
#include "runtime/candidates.h"
#include "runtime/choice.h"
#include "runtime/plan.h"
#include "runtime/plan_writer.h"

namespace fastmnist {
namespace {

constexpr double kNanoseconds = 1e9;
constexpr std::int64_t kLongestTime = std::int64_t{1} << 50;  // some 13 days: nobody measured that

using Numbers = Measurements::Numbers;

// Numbers that are known under a key, or else measured (a Result) and from then on known.
template <typename Measure>
Result<Numbers> recalled(Measurements& known, const KernelTable& kernels, const std::string& key,
                         std::size_t count, std::int64_t least, std::int64_t most,
                         const Measure& measure) {
  const std::string machine = machine_name(kernels);
  if (std::optional<Numbers> found = known.find(machine, key, count, least, most)) return *found;
  if (!known.may_measure())
    return Status::not_found("plan: expected times of '" + key + "', got none measured");
  Result<Numbers> measured = measure();
  if (measured.ok()) known.add(machine, key, *measured);
  return measured;
}

std::int64_t nanoseconds(double seconds) { return std::llround(seconds * kNanoseconds); }

// Sparse weights take as long as they are large, in hundredths of the dense ones, by steps of two.
std::string sparse_key(const NetworkView& network, std::int64_t layer) {
  const LayerRecord& record = network.record(layer);
  const auto& forms = record.forms;
  const auto dense = static_cast<double>(kDenseLayout.bytes(0, record.inputs, record.outputs));
  std::string key;
  for (int f = 1; f < kWeightForms; ++f)
    if (const std::uint64_t bytes = forms[f].bytes; bytes != 0)
      key += std::string(" ") + name_of(static_cast<WeightForm>(f)) + " " +
             std::to_string(2 * std::llround(50 * static_cast<double>(bytes) / dense)) + "%";
  return key;
}

// What rows are like: some kernels skip inputs that are zero (how many, in tenths), and pixels are
// read in place, with zeros that lie together (bench.h).
std::string rows_key(const NetworkView& network, std::int64_t layer) {
  const std::string pixels = takes_pixels(network, layer) ? " pixels" : "";
  const std::span<const std::uint8_t> zeros = network.input_zeros(layer);
  if (zeros.empty()) return pixels;
  std::int64_t sum = 0;
  for (const std::uint8_t share : zeros) sum += share;
  const double share = static_cast<double>(sum) / (kZerosOf * static_cast<double>(zeros.size()));
  return " zeros " + std::to_string(10 * std::llround(10 * share)) + "%" + pixels;
}

// Weights of few bits, where there are kernels for those alone.
std::string bits_key(const KernelTable& kernels, const NetworkView& network, std::int64_t layer) {
  const LinearShape shape = shape_of(network, layer, 1);
  LinearShape any = shape;
  any.most_weight = LinearShape{}.most_weight;
  for (const LinearKernel& kernel : all_of(kernels))
    if (can(kernel, shape) != can(kernel, any)) return " of few bits";
  return "";
}

const char* kind_of(const NetworkView& network) {
  constexpr const char* kNames[] = {"static", "affine", "dynamic"};
  return kNames[static_cast<int>(network.input())];
}

// Every kernel at every class, all equally fast.
std::vector<KernelTime> cases(const KernelTable& kernels, const NetworkView& network,
                              std::int64_t layer, int first_class) {
  std::vector<KernelTime> all;
  for (int c = first_class; c < kRowClasses; ++c) {
    const std::int64_t rows = kRowsOfClass[c];
    for (const int kernel : candidates_of(kernels, network, layer, shape_of(network, layer, rows)))
      all.push_back({rows, kernel, 1e-6});
  }
  return all;
}

bool has_choice(const std::vector<KernelTime>& times) {
  for (std::size_t i = 1; i < times.size(); ++i)
    if (times[i].rows == times[i - 1].rows) return true;
  return false;
}

// Threads that share memory's bandwidth gain more from reading fewer bytes: that matters where
// weights are large, and there are smaller ones.
bool differs_by_threads(const KernelTable& kernels, const NetworkView& network,
                        std::int64_t layer) {
  const LayerRecord& record = network.record(layer);
  // Weights that each core has in a cache of its own: there others don't matter.
  if (std::int64_t{record.inputs} * record.outputs < caches().l2 / 2) return false;
  for (const KernelTime& time : cases(kernels, network, layer, kFirstThreadedClass))
    if (is_sparse(kernels.linears[time.kernel].form)) return true;
  return false;
}

// [layer][class][kernel], as choose_kernels takes them.
class Times {
 public:
  Times(const KernelTable& kernels, const NetworkView& network)
      : kernels_(static_cast<std::size_t>(kernels.linear_count)),
        seconds_(static_cast<std::size_t>(network.layers()) * kRowClasses * kernels_,
                 std::numeric_limits<double>::infinity()) {}

  void put(std::int64_t layer, const std::vector<KernelTime>& times) {
    for (const KernelTime& time : times)
      seconds_[(static_cast<std::size_t>(layer) * kRowClasses +
                static_cast<std::size_t>(row_class(time.rows))) *
                   kernels_ +
               static_cast<std::size_t>(time.kernel)] = time.seconds;
  }
  std::span<const double> seconds() const { return seconds_; }

 private:
  std::size_t kernels_;
  std::vector<double> seconds_;
};

Result<double> set_up_seconds(const KernelTable& kernels, Measurements& known) {
  if (unit_of(kernels) == nullptr) return 0.0;
  const auto measure = [&]() -> Result<Numbers> {
    Result<double> seconds = measure_set_up(kernels);
    if (!seconds.ok()) return std::move(seconds).status();
    return Numbers{nanoseconds(*seconds)};
  };
  Result<Numbers> set_up = recalled(known, kernels, "unit", 1, 0, kLongestTime, measure);
  if (!set_up.ok()) return std::move(set_up).status();
  return static_cast<double>((*set_up)[0]) / kNanoseconds;
}

// `choices` are the kernels that go with them.
Result<std::int64_t> block_rows(const KernelTable& kernels, const NetworkView& network,
                                std::span<std::byte> buffer, std::span<const int> choices,
                                Measurements& known) {
  std::string key = std::string("blocks ") + kind_of(network);
  if (network.pixels() != PixelKind::kNone) key += " pixels";
  for (std::int64_t i = 0; i < network.layers(); ++i)
    key += (i == 0 ? " " : ", ") + layer_key(network, i) + bits_key(kernels, network, i) +
           rows_key(network, i);
  const auto measure = [&]() -> Result<Numbers> {
    if (Status bad = write_plan(kernels, choices, {}, kBlockRowsStep, buffer); !bad.ok())
      return bad;
    Result<std::vector<BlockTime>> times = measure_blocks(kernels, buffer);
    if (!times.ok()) return std::move(times).status();
    std::int64_t rows = kBlockRowsStep;
    for (const BlockTime& time : *times)
      if (time.chosen) rows = time.block_rows;
    return Numbers{rows};
  };
  Result<Numbers> rows = recalled(known, kernels, key, 1, kBlockRowsStep, kMaxBlockRows, measure);
  if (!rows.ok()) return std::move(rows).status();
  return (*rows)[0];
}

Result<std::vector<KernelTime>> recalled_times(const KernelTable& kernels,
                                               const NetworkView& network, std::int64_t layer,
                                               Measurements& known, int threads) {
  std::vector<KernelTime> times =
      cases(kernels, network, layer, threads > 1 ? kFirstThreadedClass : 0);
  std::string key = "layer " + layer_key(network, layer) + bits_key(kernels, network, layer) +
                    sparse_key(network, layer) + rows_key(network, layer);
  if (threads > 1) key += " threads " + std::to_string(threads);
  const auto measure = [&]() -> Result<Numbers> {
    Result<std::vector<KernelTime>> measured = measure_layer(kernels, network, layer, threads);
    if (!measured.ok()) return std::move(measured).status();
    Numbers numbers;
    for (const KernelTime& time : *measured)
      numbers.push_back(std::max<std::int64_t>(1, nanoseconds(time.seconds)));
    return numbers;
  };
  Result<Numbers> numbers = recalled(known, kernels, key, times.size(), 1, kLongestTime, measure);
  if (!numbers.ok()) return std::move(numbers).status();
  for (std::size_t i = 0; i < times.size(); ++i)
    times[i].seconds = static_cast<double>((*numbers)[i]) / kNanoseconds;
  return times;
}

// Asking takes some 0.1 ms. (No static of its own type: a child forked while another thread makes
// one would wait for a thread that it does not have.)
const std::string& remembered_model() {
  static std::atomic<const std::string*> model{nullptr};
  const std::string* known = model.load(std::memory_order_acquire);
  if (known == nullptr) {
    const std::string* asked = new std::string(cpu_model());
    if (model.compare_exchange_strong(known, asked)) return *asked;
    delete asked;
  }
  return *known;
}

}  // namespace

std::string machine_name(const KernelTable& kernels) {
  std::string name = remembered_model() + " | ";
  for (const LinearKernel& kernel : all_of(kernels))
    name += (&kernel == kernels.linears ? "" : ", ") + name_of(kernel);
  name += " | fastmnist " FASTMNIST_VERSION;
  for (char& c : name)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  return name;
}

std::string layer_key(const NetworkView& network, std::int64_t layer) {
  const LinearShape shape = shape_of(network, layer, 1);
  return std::to_string(shape.inputs) + "x" + std::to_string(shape.outputs) +
         (shape.codes_out ? " codes" : "") + (shape.per_row ? " rows" : "");
}

Result<std::vector<KernelTime>> layer_times(const KernelTable& kernels, const NetworkView& network,
                                            std::int64_t layer, Measurements& known, int threads) {
  const std::unique_lock<Mutex> alone = Measurements::measuring();
  Result<std::vector<KernelTime>> times = recalled_times(kernels, network, layer, known, threads);
  known.save();
  return times;
}

Status plan_network(const KernelTable& kernels, std::span<std::byte> buffer, Measurements& known,
                    int threads) {
  const std::unique_lock<Mutex> alone = Measurements::measuring();
  Result<NetworkView> viewed = view_network(buffer);
  if (!viewed.ok()) return std::move(viewed).status();
  const NetworkView& network = *viewed;
  Times times(kernels, network);
  for (std::int64_t i = 0; i < network.layers(); ++i) {
    Result<std::vector<KernelTime>> own = cases(kernels, network, i, 0);
    if (has_choice(*own)) own = recalled_times(kernels, network, i, known, 1);
    if (!own.ok()) return std::move(own).status();
    times.put(i, *own);
  }
  Result<double> set_up = set_up_seconds(kernels, known);
  if (!set_up.ok()) return std::move(set_up).status();
  Result<std::vector<int>> choices = choose_kernels(kernels, network, times.seconds(), *set_up);
  if (!choices.ok()) return std::move(choices).status();
  Result<std::int64_t> rows = block_rows(kernels, network, buffer, *choices, known);
  if (!rows.ok()) return std::move(rows).status();
  Result<std::vector<int>> threaded = std::vector<int>();
  if (threads > 1) {
    for (std::int64_t i = 0; i < network.layers(); ++i)
      if (differs_by_threads(kernels, network, i)) {
        Result<std::vector<KernelTime>> own = recalled_times(kernels, network, i, known, threads);
        if (!own.ok()) return std::move(own).status();
        times.put(i, *own);
      }
    threaded = choose_kernels(kernels, network, times.seconds(), *set_up);
    if (!threaded.ok()) return std::move(threaded).status();
  }
  Status written = write_plan(kernels, *choices, *threaded, *rows, buffer);
  if (known.may_measure()) known.save();
  return written;
}

Result<bool> plan_from_memory(const KernelTable& kernels, std::span<std::byte> buffer,
                              Measurements& known, int threads) {
  known.may_measure(false);
  Status planned = plan_network(kernels, buffer, known, threads);
  if (planned.ok()) return true;
  if (planned.is_not_found()) return false;
  return planned;
}

}  // namespace fastmnist
