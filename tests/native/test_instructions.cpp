// Emulated instructions are the processor's. What a processor with AVX-512, VNNI and VBMI2 makes of
// some thousand operands is written down here as one number an instruction; both builds must make
// the same, so that a machine without these instructions knows what they do, and a machine that has
// them knows that what is written here is true. For a new instruction, run this on one that has it
// natively: the failure names the number.
#include <array>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "check.h"
#include "core/cpu.h"
#include "core/isa.h"
#include "instruction_digests.h"
#include "instruction_samples.h"
#include "support.h"

namespace {

using namespace support;
using samples::Operands;
using samples::Sample;

constexpr int kRounds = 2000;

// Lanes of floats where conversions, comparisons and minima are not plain.
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSpecial[] = {0.0f,          -0.0f,   0.5f,        -0.5f,        1.5f,
                              2.5f,          -2.5f,   1.0f,        2147483520.f, 2147483648.0f,
                              -2147483648.f, FLT_MAX, -FLT_MAX,    kInfinity,    -kNan,
                              -kInfinity,    kNan,    8388607.5f,  3e9f,         -3e9f,
                              FLT_MIN,       1e-42f,  -1e-42f,     16777217.0f,  254.5f,
                              255.5f,        -254.5f, 0.49999997f, 32767.5f};
constexpr std::int32_t kExtreme[] = {0,     1,      -1,    127,    128,    255,       256,
                                     -128,  -129,   32767, 32768,  -32768, -32769,    INT32_MAX,
                                     65535, -65536, 33,    0x7fff, 0x8080, INT32_MIN, 0x7f807f80};

// Not by the library's distributions, which are everywhere different.
std::uint64_t below(Random& random, std::uint64_t end) { return random() % end; }

void draw(Random& random, std::uint8_t (&vector)[64]) {
  const std::uint64_t kind = below(random, 4);
  for (int i = 0; i < 16; ++i) {
    std::uint32_t lane = static_cast<std::uint32_t>(random());
    if (kind == 1)
      lane = std::bit_cast<std::uint32_t>(kSpecial[below(random, std::size(kSpecial))]);
    if (kind == 2) lane = static_cast<std::uint32_t>(kExtreme[below(random, std::size(kExtreme))]);
    if (kind == 3) {
      const auto small =
          static_cast<float>(static_cast<std::int64_t>(below(random, 80000)) - 40000);
      lane = std::bit_cast<std::uint32_t>(small / 64.0f);
    }
    std::memcpy(vector + 4 * i, &lane, 4);
  }
}

void one_nan(std::uint8_t (&result)[64]) {
  for (int i = 0; i < 16; ++i) {
    float lane;
    std::memcpy(&lane, result + 4 * i, 4);
    if (std::isnan(lane)) std::memcpy(result + 4 * i, &kNan, 4);
  }
}

// FNV-1a of all results.
std::uint64_t digest(const Sample& sample) {
  Random random(1);
  Guarded<std::uint8_t> memory(64, Edge::kLast);
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (int round = 0; round < kRounds; ++round) {
    Operands operands;
    for (auto& vector : operands.vectors) draw(random, vector);
    if (below(random, 3) == 0)  // or comparisons find nothing equal
      std::memcpy(operands.vectors[1], operands.vectors[0], 64);
    operands.mask = random();
    operands.tail_bytes = static_cast<int>(below(random, 17)) * 4;
    operands.tail = memory.data() + 64 - operands.tail_bytes;
    for (int i = 0; i < operands.tail_bytes; ++i)
      operands.tail[i] = static_cast<std::uint8_t>(random());
    std::uint8_t result[64] = {};
    sample.run(operands, result);
    if (sample.floats) one_nan(result);
    for (const std::uint8_t byte : result) hash = (hash ^ byte) * 0x100000001b3u;
  }
  return hash;
}

void check_all(std::span<const Sample> all, fastmnist::FeatureSet needs) {
  if (const std::string lacking = fastmnist::missing(needs); !lacking.empty()) {
    std::printf("     native instructions are not checked: %s\n", lacking.c_str());
    return;
  }
  std::string wrong;
  for (const Sample& sample : all) {
    const std::uint64_t made = digest(sample);
    bool known = false;
    for (const auto& expected : kInstructionDigests)
      known = known || (sample.name == std::string_view(expected.name) && expected.digest == made);
    if (known) continue;
    char line[120];
    std::snprintf(line, sizeof line, "\n    {\"%s\", 0x%016" PRIx64 "u},", sample.name, made);
    wrong += line;
  }
  CHECK_IN("not as written in instruction_digests.h:" + wrong, wrong.empty());
}

TEST(avx2_instructions_are_the_processors) { check_all(samples::avx2(), fastmnist::kAvx2Features); }

TEST(avx512_instructions_are_the_processors) {
  check_all(samples::avx512(),
            fastmnist::kAvx512VnniFeatures | fastmnist::kAvx512Vbmi | fastmnist::kAvx512Vbmi2);
}

}  // namespace
