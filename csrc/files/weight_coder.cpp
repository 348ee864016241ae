#include "files/weight_coder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "files/value_model.h"
#include "files/weight_grid.h"
#include "files/zero_model.h"

namespace fastmnist {
namespace {

constexpr std::int32_t kEven = kProbabilityOne / 2;

// The binary logarithm of a power of two.
int exponent(int power) { return std::countr_zero(static_cast<unsigned>(power)); }

// `bits` bits of a number, the highest first, all as probable as not.
int code_plain(BitCoder& coder, int number, int bits) {
  int read = 0;
  for (int i = bits - 1; i >= 0; --i) read = 2 * read + coder.code((number >> i) & 1, kEven);
  return read;
}

WeightOrder code_order(BitCoder& coder, const WeightOrder& order) {
  WeightOrder read;
  read.by_inputs = coder.code(order.by_inputs, kEven) != 0;
  if (coder.code(order.width > 0, kEven) != 0) {
    const bool usual = coder.code(order.width == 28, 3 * kEven / 2) != 0;
    read.width = usual ? 28 : code_plain(coder, order.width, 12);
  }
  read.prior = 1 << code_plain(coder, exponent(order.prior), 3);
  read.rate = 1 << code_plain(coder, exponent(order.rate), 2);
  return read;
}

void code_table(BitCoder& coder, WeightTable& table) {
  std::array<Counter, 4> by_last_two{Counter(1 << 18, 2), Counter(), Counter(), Counter()};
  std::size_t last = 0;
  for (bool& has : table.has) {
    Counter& counter = by_last_two[last];
    has = coder.code(has, counter.p() >> (22 - kProbabilityBits)) != 0;
    counter.update(has, 30);
    last = (2 * last + has) % 4;
  }
  table.number();
}

// The models of one matrix.
struct Models {
  ZeroModel zero;
  ValueModel value;
};

class WeightCoder {
 public:
  WeightCoder(const WeightGrid& grid, const WeightTable& table, const WeightOrder& order)
      : grid_(grid), table_(table), order_(order) {}

  Status run(BitCoder& coder, std::int8_t* taken) {
    if (!begin()) return Status::out_of_memory();
    const std::int64_t outer = order_.by_inputs ? grid_.inputs() : grid_.outputs();
    const std::int64_t inner = order_.by_inputs ? grid_.outputs() : grid_.inputs();
    for (std::int64_t a = 0; a < outer; ++a) {
      for (std::int64_t b = 0; b < inner; ++b)
        code_one(coder, order_.by_inputs ? b : a, order_.by_inputs ? a : b, taken);
      if (coder.is_past_end()) return Status::invalid("bytes", "all of them", "too few");
    }
    return {};
  }

 private:
  bool begin() {
    outputs_ = std::min(grid_.outputs(), kMostLines);
    const auto lines = static_cast<std::size_t>(outputs_ + std::min(grid_.inputs(), kMostLines));
    counters_.reset(new (std::nothrow) Counter[lines]);
    lines_.reset(new (std::nothrow) Line[lines]);
    if (counters_ == nullptr || lines_ == nullptr) return false;
    models_.reset(new (std::nothrow) Models{
        ZeroModel(order_, counters_.get(), counters_.get() + outputs_, grid_.inputs()),
        ValueModel(order_, table_)});
    return models_ != nullptr;
  }

  void code_one(BitCoder& coder, std::int64_t n, std::int64_t k, std::int8_t* taken) {
    int value = taken == nullptr ? grid_.at(n, k) : 0;
    const Around around = grid_.around(n, k, order_.width, table_);
    int is_there = 1;
    // Each weight costs a decision, so that bytes bound their number.
    if (table_.has_zero() || table_.count[0] + table_.count[1] == 1) {
      is_there = coder.code(value != 0, models_->zero.predict(n, k, around) >> 4);
      models_->zero.update(is_there);
    }
    if (is_there)
      value = models_->value.code(coder, value, around, lines_[line_of(n)],
                                  lines_[outputs_ + line_of(k)]);
    if (taken != nullptr)
      taken[n * grid_.inputs() + k] = static_cast<std::int8_t>(is_there ? value : 0);
  }

  WeightGrid grid_;
  const WeightTable& table_;
  WeightOrder order_;
  std::int64_t outputs_ = 0;  // lines of them; those of the inputs are behind
  std::unique_ptr<Counter[]> counters_;
  std::unique_ptr<Line[]> lines_;
  std::unique_ptr<Models> models_;
};

// Tries what may be best, on the first rows.
class Search {
 public:
  Search(const WeightGrid& grid, const WeightTable& table, const std::int8_t* known)
      : table_(table),
        part_(known, std::clamp<std::int64_t>(kTried / grid.inputs(), 1, grid.outputs()),
              grid.inputs()) {}

  Result<WeightOrder> best() {
    for (const int width : widths())
      for (const bool by_inputs : {false, true}) {
        WeightOrder order;
        order.width = width;
        order.by_inputs = by_inputs;
        if (Status bad = attempt(order); !bad.ok()) return bad;
      }
    for (const int prior : {2, 4, 16, 32}) {
      WeightOrder order = best_;
      order.prior = prior;
      if (Status bad = attempt(order); !bad.ok()) return bad;
    }
    for (const int rate : {1, 4, 8}) {
      WeightOrder order = best_;
      order.rate = rate;
      if (Status bad = attempt(order); !bad.ok()) return bad;
    }
    return best_;
  }

 private:
  static constexpr std::int64_t kTried = 1 << 18;

  // Of square images, of one channel or three.
  std::vector<int> widths() const {
    std::vector<int> widths = {0};
    for (const int channels : {1, 3}) {
      const auto width = static_cast<std::int64_t>(
          std::lround(std::sqrt(static_cast<double>(part_.inputs() / channels))));
      if (width >= 4 && width <= WeightOrder::kMostWidth &&
          width * width * channels == part_.inputs())
        widths.push_back(static_cast<int>(width));
    }
    return widths;
  }

  Status attempt(const WeightOrder& order) {
    BitCoder measure;
    WeightCoder coder(part_, table_, order);
    if (Status bad = coder.run(measure, nullptr); !bad.ok()) return bad;
    if (measure.cost() < least_) {
      least_ = measure.cost();
      best_ = order;
    }
    return {};
  }

  const WeightTable& table_;
  WeightGrid part_;
  WeightOrder best_;
  std::int64_t least_ = std::numeric_limits<std::int64_t>::max();
};

}  // namespace

Status code_weights(BitCoder& coder, const std::int8_t* known, std::int8_t* taken,
                    std::int64_t outputs, std::int64_t inputs) {
  const WeightGrid grid(known, outputs, inputs);
  WeightTable table;
  WeightOrder order;
  if (taken == nullptr) {
    for (std::int64_t i = 0; i < outputs * inputs; ++i)
      table.has[static_cast<std::size_t>(known[i] + 128)] = true;
    table.number();
    Result<WeightOrder> best = Search(grid, table, known).best();
    if (!best.ok()) return std::move(best).status();
    order = *best;
  }
  order = code_order(coder, order);
  if (order.width == 1) return Status::invalid("bytes", "images 2 or more wide", "1");
  code_table(coder, table);
  if (table.count[0] + table.count[1] == 0 && !table.has_zero())
    return Status::invalid("bytes", "a table of at least one value", "none");
  return WeightCoder(grid, table, order).run(coder, taken);
}

}  // namespace fastmnist
