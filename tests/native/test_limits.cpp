// The probes of the core's limits. Only that they give figures: times are never asserted.
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "runtime/limits.h"
#include "support.h"

using fastmnist::Limits;
using fastmnist::ReadLimit;

namespace {

bool positive(double rate) { return std::isfinite(rate) && rate > 0; }

}  // namespace

TEST(limits_are_figures) {
  for (const fastmnist::Rung& rung : support::runnable()) {
    const Limits limits = check::value(fastmnist::measure_limits(rung.name));
    CHECK_IN(rung.name, positive(limits.products_per_second));
    CHECK_IN(rung.name, positive(limits.random_products_per_second));
    CHECK_IN(rung.name, positive(limits.float_products_per_second));
    for (const ReadLimit& level : {limits.l1, limits.l2, limits.l3, limits.memory}) {
      CHECK_IN(rung.name, positive(level.bytes_per_second));
      CHECK_IN(rung.name, level.buffer_bytes > 0);
    }
    CHECK_IN(rung.name, limits.l1.buffer_bytes <= limits.l1.level_bytes);
    CHECK_IN(rung.name, limits.l2.buffer_bytes <= limits.l2.level_bytes);
    CHECK_IN(rung.name, limits.l3.buffer_bytes <= limits.l3.level_bytes);
    CHECK_IN(rung.name, limits.memory.buffer_bytes >= limits.l3.buffer_bytes);
  }
}

TEST(limits_refuse_what_cannot_run) {
  for (const char* name : {"", "nonsense", "AVX2"})
    CHECK(fastmnist::measure_limits(name).status().text().starts_with("isa: expected one of "));
  for (const fastmnist::Rung& rung : fastmnist::ladder()) {
    if (rung.refusal.empty() || rung.refusal.starts_with("capped")) continue;
    CHECK(!fastmnist::measure_limits(rung.name).ok());
  }
}
