#include <capstan/server/files/leftovers.h>

#include <set>
#include <vector>

namespace capstan::server::files {

Status Leftovers::prepare(const Grant& grant, const Meters& meters, const Grants* grants, const std::string& name) {
  auto all = staging.resumables();
  std::lock_guard lock(mutex);
  std::set<std::string_view> there;
  size_t count = 0;
  bool isThere = false;
  for (auto& each : all) {
    auto id = Staging::grantOfResumeName(each.name);
    if (id == grant.id) {
      ++count;
      isThere = isThere || each.name == name;
    } else if (auto other = grants == nullptr ? nullptr : grants->find(id); other != nullptr && other->ended()) {
      staging.forget(each.name);
      continue;
    }
    there.insert(each.name);
    if (each.isOpen) continue;  // whoever has it open counts it, or has handed that over and is about to close it
    if (id != grant.id || charges.count(each.name) > 0) continue;
    charges.emplace(each.name, meters.takeAnyway(Resource::STAGED_BYTES, each.bytes));
  }
  std::erase_if(charges, [&](const auto& charge) { return there.count(charge.first) == 0; });
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

}  // namespace capstan::server::files
