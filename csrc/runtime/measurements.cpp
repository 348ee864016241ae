#include "runtime/measurements.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <utility>

#include "core/files.h"
#include "core/os.h"

namespace fastmnist {
namespace {

constexpr std::string_view kFirstLine = "fastmnist measurements 2";
constexpr std::string_view kMachine = "machine";
constexpr std::size_t kMostBytes = std::size_t{1} << 23;

// Two locks for all stores: one around what they hold, never for long, and one around measuring. A
// fork waits for the first, so that the child's stores are whole; the second may be held by a
// thread that the child does not have, so the child gets a new one.
struct Locks {
  Mutex held;
  std::atomic<Mutex*> measuring{new Mutex};
};

Locks& locks() {
  static Locks* kept = nullptr;  // never destroyed, as threads may still run when the process ends
  static Locks* const made = [] {
    kept = new Locks;
    os::around_fork([] { kept->held.lock(); }, [] { kept->held.unlock(); },
                    [] {
                      kept->held.unlock();
                      kept->measuring.store(new Mutex);
                    });
    return kept;
  }();
  return *made;
}

using Held = std::lock_guard<Mutex>;

std::string_view next_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

// Integers with a blank between two; nothing for anything else.
std::optional<Measurements::Numbers> numbers_in(std::string_view text) {
  Measurements::Numbers numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::int64_t number = 0;
    const auto [behind, error] = std::from_chars(at, end, number);
    if (error != std::errc()) return std::nullopt;
    numbers.push_back(number);
    if (behind == end) return numbers;
    if (*behind != ' ') return std::nullopt;
    at = behind + 1;
  }
}

std::string lock_path(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  const bool has_suffix = dot != std::string::npos && path.find('/', dot) == std::string::npos;
  return (has_suffix ? path.substr(0, dot) : path) + ".lock";
}

Measurements::Store parsed(std::string_view text) {
  Measurements::Store store;
  if (next_line(text) != kFirstLine) return store;
  std::optional<std::string_view> machine;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    const std::size_t tab = line.find('\t');
    if (tab == std::string_view::npos) continue;
    const std::string_view key = line.substr(0, tab);
    const std::string_view value = line.substr(tab + 1);
    if (key == kMachine)
      machine = value;
    else if (std::optional<Measurements::Numbers> numbers = numbers_in(value); machine && numbers)
      store.put(*machine, key, std::move(*numbers));
  }
  return store;
}

Measurements::Store read_store(const std::string& path) {
  const std::optional<std::string> text = read_file(path, kMostBytes);
  return text ? parsed(*text) : Measurements::Store{};
}

// Entries by age, the latest last, and no more of them than are kept.
std::vector<const Measurements::Machine::value_type*> kept(const Measurements::Machine& machine) {
  std::vector<const Measurements::Machine::value_type*> entries;
  for (const auto& entry : machine) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(),
            [](const auto* a, const auto* b) { return a->second.order < b->second.order; });
  if (entries.size() > Measurements::kMostEntries)
    entries.erase(entries.begin(), entries.end() - Measurements::kMostEntries);
  return entries;
}

std::string text_of(const Measurements::Store& store) {
  std::string text = std::string(kFirstLine) + "\n";
  for (const auto& [name, machine] : store.machines) {
    text += std::string(kMachine) + "\t" + name + "\n";
    for (const auto* entry : kept(machine)) {
      text += entry->first;
      char between = '\t';
      for (const std::int64_t number : entry->second.numbers) {
        text += between + std::to_string(number);
        between = ' ';
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace

void Measurements::Store::put(std::string_view machine, std::string_view key, Numbers numbers) {
  machines[std::string(machine)][std::string(key)] = {std::move(numbers), next++};
}

Measurements::Measurements(std::string path) : path_(std::move(path)) {
  locks();  // now, not in the middle of a fork
}

void Measurements::keep_in(std::string path) {
  const Held held(locks().held);
  if (path == path_) return;
  path_ = std::move(path);
  is_read_ = false;
}

void Measurements::read_once() {
  std::string path;
  {
    const Held held(locks().held);
    if (is_read_ || path_.empty()) return;
    path = path_;
  }
  Store found = read_store(path);
  const Held held(locks().held);
  if (path_ != path) return;
  is_read_ = true;
  for (auto& [name, machine] : found.machines) known_.machines[name].merge(machine);
}

std::optional<Measurements::Numbers> Measurements::find(std::string_view machine,
                                                        std::string_view key, std::size_t count,
                                                        std::int64_t least, std::int64_t most) {
  read_once();
  const Held held(locks().held);
  const auto own = known_.machines.find(machine);
  if (own == known_.machines.end()) return std::nullopt;
  const auto entry = own->second.find(key);
  if (entry == own->second.end()) return std::nullopt;
  const Numbers& numbers = entry->second.numbers;
  const auto usable = [&](std::int64_t number) { return number >= least && number <= most; };
  if (numbers.size() != count || !std::all_of(numbers.begin(), numbers.end(), usable))
    return std::nullopt;
  return numbers;
}

void Measurements::add(std::string_view machine, std::string_view key, Numbers numbers) {
  const Held held(locks().held);
  unsaved_.put(machine, key, numbers);
  known_.put(machine, key, std::move(numbers));
  ++added_;
}

void Measurements::save() {
  std::string path;
  Store news;
  {
    const Held held(locks().held);
    if (path_.empty() || unsaved_.machines.empty()) return;
    path = path_;
    std::swap(news, unsaved_);
  }
  const FileLock lock(lock_path(path));
  Store file = read_store(path);
  for (auto& [name, machine] : news.machines)
    for (const auto* entry : kept(machine)) file.put(name, entry->first, entry->second.numbers);
  replace_file(path, text_of(file));
}

void Measurements::forget() {
  const Held held(locks().held);
  known_ = {};
  unsaved_ = {};
  is_read_ = false;
}

std::int64_t Measurements::added() const {
  const Held held(locks().held);
  return added_;
}

std::unique_lock<Mutex> Measurements::measuring() {
  return std::unique_lock(*locks().measuring.load());
}

}  // namespace fastmnist
