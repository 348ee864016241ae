#include <algorithm>
#include <array>
#include <atomic>
#include <iterator>

#include "core/cpu.h"
#include "core/os.h"
#include "kernels/tables.h"

namespace fastmnist {

// What was built, by CMakeLists.txt's table: FASTMNIST_PART(kAvx2) ... FASTMNIST_PART(kScalar).
#define FASTMNIST_PART(part) extern const KernelPart part;
#include "built_parts.inc"
#undef FASTMNIST_PART

namespace {

#if defined(__x86_64__)
constexpr Family kThisFamily = Family::kX86;
#elif defined(__aarch64__)
constexpr Family kThisFamily = Family::kArm;
#elif defined(__wasm__)
constexpr Family kThisFamily = Family::kWasm;
#else
constexpr Family kThisFamily = Family::kAny;
#endif

constexpr int kSets = static_cast<int>(std::size(kInstructionSets));

const KernelPart* const kParts[] = {
#define FASTMNIST_PART(part) &part,
#include "built_parts.inc"
#undef FASTMNIST_PART
};

bool is(const char* name, std::string_view isa) { return name != nullptr && name == isa; }

// Adds a set's own parts to the table; parts that need what the processor lacks are left out.
// Returns whether there were any at all.
bool add_parts(std::string_view isa, KernelTable& table) {
  bool any = false;
  for (const KernelPart* part : kParts) {
    if (!is(part->isa, isa)) continue;
    any = true;
    if (!missing(part->needs).empty()) continue;
    if (part->rows != nullptr) table.rows = *part->rows;
    if (part->floats != nullptr) table.floats = *part->floats;
    if (part->float_linear != nullptr) table.float_linear = *part->float_linear;
    if (part->peak != nullptr) table.peak = part->peak;
    for (int i = 0; i < part->linear_count && table.linear_count < kMaxLinearKernels; ++i)
      table.linears[table.linear_count++] = part->linears[i];
  }
  return any;
}

struct Set {
  bool built = false;
  KernelTable table{};
};

// In the order of kInstructionSets. A set has its base's kernels first, as the first of a table
// serves everywhere.
const std::array<Set, kSets>& sets() {
  static const std::array<Set, kSets> made = [] {
    std::array<Set, kSets> all;
    for (int i = 0; i < kSets; ++i) {
      const InstructionSet& isa = kInstructionSets[i];
      Set& set = all[static_cast<std::size_t>(i)];
      const bool base = isa.base == nullptr || add_parts(isa.base, set.table);
      set.built = add_parts(isa.name, set.table) && base;
      set.table.name = isa.name;
    }
    return all;
  }();
  return made;
}

std::string refusal(int i) {
  const Family family = kInstructionSets[i].family;
  if (family != Family::kAny && family != kThisFamily) return "not built for this processor family";
  if (!sets()[static_cast<std::size_t>(i)].built) return "left out of this build";
  return missing(kInstructionSets[i].needs);
}

std::string names() {
  std::string text;
  for (const InstructionSet& isa : kInstructionSets)
    text += (text.empty() ? "" : ", ") + std::string(isa.name);
  return text;
}

// -1: unknown.
int index_of(std::string_view name) {
  for (int i = 0; i < kSets; ++i)
    if (name == kInstructionSets[i].name) return i;
  return -1;
}

const char* cap() { return os::environment("FASTMNIST_ISA"); }

std::atomic<const KernelTable*> g_active{nullptr};

}  // namespace

std::vector<Rung> ladder() {
  const char* capped = cap();
  bool below_cap = capped == nullptr;
  std::vector<Rung> rungs;
  for (int i = 0; i < kSets; ++i) {
    const char* name = kInstructionSets[i].name;
    const Set& set = sets()[static_cast<std::size_t>(i)];
    below_cap = below_cap || is(name, capped);
    std::string why = refusal(i);
    if (why.empty() && !below_cap) why = "capped by FASTMNIST_ISA=" + std::string(capped);
    rungs.push_back({name, set.built ? &set.table : nullptr, std::move(why)});
  }
  return rungs;
}

Result<const KernelTable*> active_kernels() {
  if (const KernelTable* active = g_active.load(std::memory_order_acquire)) return active;
  if (const char* capped = cap(); capped != nullptr && index_of(capped) < 0)
    return Status::invalid("FASTMNIST_ISA", "one of " + names(), "'" + std::string(capped) + "'");
  const KernelTable* best = &sets().back().table;
  for (const Rung& rung : ladder()) {
    if (!rung.refusal.empty()) continue;
    best = rung.kernels;
    break;
  }
  g_active.store(best, std::memory_order_release);
  return best;
}

Result<const KernelTable*> kernels_named(std::string_view isa) {
  const int i = index_of(isa);
  if (i < 0) return Status::invalid("isa", "one of " + names(), "'" + std::string(isa) + "'");
  if (const std::string why = refusal(i); !why.empty())
    return Status::invalid("isa", "an instruction set that this machine runs",
                           "'" + std::string(isa) + "' (" + why + ")");
  return &sets()[static_cast<std::size_t>(i)].table;
}

int rung_of(const KernelTable& kernels) {
  int rung = 0;
  while (rung < kSets - 1 && &sets()[static_cast<std::size_t>(rung)].table != &kernels) ++rung;
  return rung;
}

Result<std::string> set_active_kernels(std::string_view isa) {
  Result<const KernelTable*> wanted = kernels_named(isa);
  if (!wanted.ok()) return std::move(wanted).status();
  Result<const KernelTable*> before = active_kernels();
  if (!before.ok()) return std::move(before).status();
  g_active.store(*wanted, std::memory_order_release);
  return std::string((*before)->name);
}

std::string name_of(const LinearKernel& kernel) {
  std::string name = kernel.isa;
  if (*kernel.loop != '\0') name += std::string(" ") + kernel.loop;
  name += " " + std::to_string(kernel.tile_rows) + "x" + std::to_string(kernel.tile_panels);
  if (kernel.form != WeightForm::kDense) name += std::string(" ") + name_of(kernel.form);
  return name;
}

std::vector<WeightForm> readable_forms(const KernelTable& kernels) {
  std::vector<WeightForm> forms;
  for (int i = 0; i < kernels.linear_count; ++i)
    if (const WeightForm form = kernels.linears[i].form;
        form != WeightForm::kDense && std::find(forms.begin(), forms.end(), form) == forms.end())
      forms.push_back(form);
  return forms;
}

const char* name_of(WeightForm form) { return kFormNames[static_cast<int>(form)]; }

}  // namespace fastmnist
