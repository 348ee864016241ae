#include "core/cpu.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>

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

struct Feature {
  const char* name;
  bool present;
};

std::string first_missing(std::initializer_list<Feature> features, std::uint64_t needed_state,
                          const char* registers) {
  std::string missing;
  for (const Feature& feature : features)
    if (!feature.present)
      missing += (missing.empty() ? "the CPU lacks " : ", ") + std::string(feature.name);
  if (!missing.empty()) return missing;
  if ((os_saved_state() & needed_state) != needed_state)
    return std::string("the operating system does not save ") + registers + " registers";
  return "";
}

constexpr std::uint64_t kYmmState = 0x06;
constexpr std::uint64_t kZmmState = 0xe6;
constexpr std::uint64_t kTileState = 0x60000;

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

std::string missing_for(std::string_view isa) {
  if (kEmulated) return "";
  const Registers leaf1 = cpuid(1, 0);
  const Registers leaf7 = cpuid(7, 0);
  const auto bit = [](unsigned value, int index) { return ((value >> index) & 1u) != 0; };
  const Feature avx2{"avx2", bit(leaf7.ebx, 5)};
  const Feature fma{"fma", bit(leaf1.ecx, 12)};
  if (isa == "scalar") return "";
  if (isa == "avx2") return first_missing({avx2, fma}, kYmmState, "ymm");
  const std::string no_vnni = first_missing({avx2,
                                             fma,
                                             {"avx512f", bit(leaf7.ebx, 16)},
                                             {"avx512dq", bit(leaf7.ebx, 17)},
                                             {"avx512bw", bit(leaf7.ebx, 30)},
                                             {"avx512vl", bit(leaf7.ebx, 31)},
                                             {"avx512_vnni", bit(leaf7.ecx, 11)}},
                                            kZmmState, "zmm");
  if (isa == "avx512_vnni" || !no_vnni.empty()) return no_vnni;
  if (isa == "avx512_sparse")
    return first_missing({{"avx512_vbmi", bit(leaf7.ecx, 1)}, {"avx512_vbmi2", bit(leaf7.ecx, 6)}},
                         kZmmState, "zmm");
  if (isa == "amx_int8") {
    std::string missing = first_missing(
        {{"amx_tile", bit(leaf7.edx, 24)}, {"amx_int8", bit(leaf7.edx, 25)}}, kTileState, "tile");
    if (missing.empty() && !tiles_permitted())
      missing = "the operating system refuses tile registers to this process";
    return missing;
  }
  return "not an instruction set of x86-64";
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

std::string missing_for(std::string_view isa) {
  return isa == "scalar" ? "" : "not an instruction set of this processor family";
}

std::string cpu_model() { return "unknown"; }

#endif

}  // namespace fastmnist
