// The tile instructions, the processor's or emulated: products of tiles of any size against plain
// loops, in memory that faults on the first access outside; and what is refused.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "check.h"
#include "core/cpu.h"
#include "kernels/x86/amx_tile.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

bool has_tiles() {
  const std::string lacking = missing(kAmxTile | kAmxInt8);
  if (!lacking.empty()) std::printf("     tiles are not checked: %s\n", lacking.c_str());
  return lacking.empty();
}

TileConfig config_of(std::int64_t rows, std::int64_t quads, std::int64_t outputs) {
  TileConfig config;
  const std::int64_t sizes[3][2] = {{rows, outputs}, {rows, quads}, {quads, outputs}};
  for (int t = 0; t < 3; ++t) {
    config.rows[t] = static_cast<std::uint8_t>(sizes[t][0]);
    config.bytes_per_row[t] = static_cast<std::uint16_t>(4 * sizes[t][1]);
  }
  return config;
}

// Rows of random bytes, `stride` apart, the last one as short as a tile's.
Guarded<std::uint8_t> random_rows(Random& random, std::int64_t rows, std::int64_t width,
                                  std::int64_t stride, Edge edge) {
  const std::int64_t size = (rows - 1) * stride + width;
  return {std::span<const std::uint8_t>(integers<std::uint8_t>(random, size, 0, 255)), edge};
}

void check_product(Random& random, std::int64_t rows, std::int64_t quads, std::int64_t outputs,
                   Edge edge) {
  const std::int64_t a_stride = 4 * quads + integer(random, 0, 70);
  const std::int64_t b_stride = 4 * outputs + integer(random, 0, 70);
  const std::int64_t c_stride = 4 * outputs + 4 * integer(random, 0, 9);
  const auto a = random_rows(random, rows, 4 * quads, a_stride, edge);
  const auto b = random_rows(random, quads, 4 * outputs, b_stride, edge);
  const auto c = random_rows(random, rows, 4 * outputs, c_stride, edge);
  std::vector<std::uint8_t> expected(c.values().begin(), c.values().end());
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t n = 0; n < outputs; ++n) {
      std::uint8_t* at = expected.data() + m * c_stride + 4 * n;
      std::uint32_t sum;  // wraps, as the instruction's does
      std::memcpy(&sum, at, 4);
      for (std::int64_t k = 0; k < 4 * quads; ++k)
        sum += static_cast<std::uint32_t>(
            a.data()[m * a_stride + k] *
            static_cast<std::int8_t>(b.data()[k / 4 * b_stride + 4 * n + k % 4]));
      std::memcpy(at, &sum, 4);
    }
  tile_load_config(config_of(rows, quads, outputs));
  tile_load<0>(c.data(), c_stride);
  tile_load<1>(a.data(), a_stride);
  tile_stream<2>(b.data(), b_stride);
  tile_multiply<0, 1, 2>();
  tile_store<0>(c.data(), c_stride);
  tile_zero<0>();
  tile_release();
  CHECK_IN(std::to_string(rows) + "x" + std::to_string(quads) + "x" + std::to_string(outputs),
           std::equal(expected.begin(), expected.end(), c.data()));
}

TEST(tile_products_equal_loops) {
  if (!has_tiles()) return;
  Random random(21);
  check_product(random, 16, 16, 16, Edge::kLast);
  for (int repeat = 0; repeat < 500; ++repeat)
    check_product(random, integer(random, 1, 16), integer(random, 1, 16), integer(random, 1, 16),
                  repeat % 2 == 0 ? Edge::kFirst : Edge::kLast);
}

// By a signal, or by what a sanitizer makes of one.
bool ends_the_process(void (*call)()) {
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    call();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

TEST(tiles_are_refused_as_by_the_processor) {
  if (!has_tiles()) return;
  CHECK(!ends_the_process([] {
    tile_configure();
    tile_zero<7>();
    tile_multiply<0, 1, 2>();
    tile_release();
  }));
  CHECK(ends_the_process([] { tile_zero<0>(); }));
  CHECK(ends_the_process([] {
    tile_configure();
    tile_release();
    tile_zero<0>();
  }));
  CHECK(ends_the_process([] {
    tile_load_config(config_of(4, 3, 2));
    tile_zero<5>();  // it has no rows
  }));
  CHECK(ends_the_process([] {
    tile_load_config(config_of(4, 3, 2));
    tile_multiply<0, 2, 1>();
  }));
  CHECK(ends_the_process([] { tile_load_config(config_of(17, 3, 2)); }));
  CHECK(ends_the_process([] { tile_load_config(config_of(4, 3, 17)); }));
  CHECK(ends_the_process([] {
    TileConfig config = config_of(4, 3, 2);
    config.palette = 2;
    tile_load_config(config);
  }));
}

}  // namespace
