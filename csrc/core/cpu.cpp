#include "core/cpu.h"

#include <array>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastmnist {

#if defined(__x86_64__)
namespace {

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

// Register state that the operating system saves (XCR0); 0 where it uses no XSAVE at all.
std::uint64_t os_saved_state() {
  constexpr unsigned kOsxsave = 1u << 27;
  if ((cpuid(1, 0).ecx & kOsxsave) == 0) return 0;
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

enum Register { kLeaf1Ecx, kLeaf7Ebx, kLeaf7Ecx, kLeaf7Edx };

// Register state that must be saved (XCR0), and what it is called.
struct State {
  std::uint64_t bits;
  const char* registers;
};
constexpr State kYmm{0x06, "ymm"};
constexpr State kZmm{0xe6, "zmm"};
constexpr State kTiles{0x60000, "tile"};

struct Feature {
  FeatureSet id;
  const char* name;
  Register where;
  int bit;
  State state;
};

constexpr Feature kFeatures[] = {
    {kAvx2, "avx2", kLeaf7Ebx, 5, kYmm},
    {kFma, "fma", kLeaf1Ecx, 12, kYmm},
    {kAvx512f, "avx512f", kLeaf7Ebx, 16, kZmm},
    {kAvx512dq, "avx512dq", kLeaf7Ebx, 17, kZmm},
    {kAvx512bw, "avx512bw", kLeaf7Ebx, 30, kZmm},
    {kAvx512vl, "avx512vl", kLeaf7Ebx, 31, kZmm},
    {kAvx512Vnni, "avx512_vnni", kLeaf7Ecx, 11, kZmm},
    {kAvx512Vbmi, "avx512_vbmi", kLeaf7Ecx, 1, kZmm},
    {kAvx512Vbmi2, "avx512_vbmi2", kLeaf7Ecx, 6, kZmm},
    {kAmxTile, "amx_tile", kLeaf7Edx, 24, kTiles},
    {kAmxInt8, "amx_int8", kLeaf7Edx, 25, kTiles},
};

// Linux hands tile registers out on request, once per process; a refusal is final.
bool tiles_permitted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permitted;
#else
  return false;
#endif
}

}  // namespace

std::string missing(FeatureSet needed) {
  if (kEmulated) return "";
  const Registers leaf1 = cpuid(1, 0);
  const Registers leaf7 = cpuid(7, 0);
  const unsigned registers[] = {leaf1.ecx, leaf7.ebx, leaf7.ecx, leaf7.edx};
  std::string lacking;
  for (const Feature& feature : kFeatures)
    if ((needed & feature.id) != 0 && ((registers[feature.where] >> feature.bit) & 1u) == 0)
      lacking += (lacking.empty() ? "the CPU lacks " : ", ") + std::string(feature.name);
  if (!lacking.empty()) return lacking;
  const std::uint64_t saved = os_saved_state();
  for (const Feature& feature : kFeatures)
    if ((needed & feature.id) != 0 && (saved & feature.state.bits) != feature.state.bits)
      return std::string("the operating system does not save ") + feature.state.registers +
             " registers";
  if ((needed & (kAmxTile | kAmxInt8)) != 0 && !tiles_permitted())
    return "the operating system refuses tile registers to this process";
  return "";
}

std::string cpu_model() {
  if (cpuid(0x80000000u, 0).eax < 0x80000004u) return "unknown";
  std::array<char, 49> name{};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i, 0);
    std::memcpy(name.data() + 16 * i, &r, 16);
  }
  std::string text(name.data());
  const std::size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "unknown" : text.substr(first);
}

#else

std::string missing(FeatureSet needed) {
  return needed == 0 ? "" : "not an instruction set of this processor family";
}

std::string cpu_model() { return "unknown"; }

#endif

}  // namespace fastmnist
