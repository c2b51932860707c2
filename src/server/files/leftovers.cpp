#include <capstan/server/files/leftovers.h>

#include <set>
#include <string_view>

namespace capstan::server::files {

namespace {

// Of what must live as long as they do.
std::set<std::string_view> namesOf(const std::vector<Staging::Resumable>& all) {
  std::set<std::string_view> names;
  for (auto& each : all) names.insert(each.name);
  return names;
}

}  // namespace

Status Leftovers::prepare(const Grant& grant, const Meters& meters, const std::string& name) {
  auto all = staging.resumables();
  std::lock_guard lock(mutex);
  size_t count = 0;
  bool isThere = false;
  for (auto& each : all) {
    if (Staging::grantOfResumeName(each.name) != grant.id) continue;
    ++count;
    isThere = isThere || each.name == name;
    if (each.isOpen) continue;  // whoever has it open counts it, or has handed that over and is about to close it
    if (charges.count(each.name) > 0) continue;
    charges.emplace(each.name, meters.takeAnyway(Resource::STAGED_BYTES, each.bytes));
  }
  std::erase_if(charges, [there = namesOf(all)](const auto& charge) { return there.count(charge.first) == 0; });
  if (name.empty() || isThere || count < MAX_RESUMABLE_UPLOADS) return okStatus();
  return Error{ErrorCode::LIMIT,
               std::to_string(count) +
                   " uploads that can be resumed are there already, and there may be no more; resume some of them, or "
                   "wait until they are forgotten",
               {}};
}

void Leftovers::keep(const std::string& name, Meters::Charge charge) {
  std::lock_guard lock(mutex);
  charges.insert_or_assign(name, std::move(charge));
}

void Leftovers::take(const std::string& name) {
  std::lock_guard lock(mutex);
  charges.erase(name);
}

void Leftovers::forgetEnded(const ServedFolder::HasEnded& hasEnded) {
  auto isEnded = [&](const std::string& name) { return hasEnded(Staging::grantOfResumeName(name)); };
  for (auto& each : staging.resumables()) {
    if (isEnded(each.name)) staging.forget(each.name);
  }
  std::lock_guard lock(mutex);
  auto left = staging.resumables();
  auto there = namesOf(left);
  std::erase_if(charges, [&](const auto& charge) { return isEnded(charge.first) && there.count(charge.first) == 0; });
}

}  // namespace capstan::server::files
