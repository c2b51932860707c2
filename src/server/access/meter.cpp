#include <capstan/server/access/meter.h>

#include <algorithm>

#include <capstan/base/text.h>
#include <capstan/server/access/grant.h>

namespace capstan::server {

namespace {

constexpr size_t OWN_PLACE = 1;  // of the grant's own meter among Meters, behind the connection's

struct Words {
  const char* name;  // as --limit has it
  const char* things;
  const char* wayOut;
  bool bytes = false;
};

const Words& wordsFor(Resource resource) {
  static constexpr std::array<Words, RESOURCES> WORDS{{
      {"connections", "connections", "close some"},
      {"logins", "sessions", "go on with one of them, or drop some"},
      {"calls", "calls in flight", "wait for some to be answered"},
      {"files", "files open", "drop some"},
      {"uploads", "uploads open", "commit or discard some"},
      {"streams", "streams open", "wait for some to end"},
      {"batches", "batches open", "commit or drop some"},
      {"batch-bytes", "operations in batches", "commit some of it first", true},
      {"batch-staged-bytes", "content in batches", "commit some of it first", true},
      {"subscriptions", "subscriptions", "drop some"},
      {"staged-bytes", "content that is not committed", "commit or discard some of it", true},
      {"values", "values", "drop some"},
  }};
  return WORDS[size_t(resource)];
}

// Why the one that is full takes no more. What a share was made from is not named to whoever has that share: its label
// was given to others.
Error refusalOf(const Meter& full, const std::vector<std::shared_ptr<Meter>>& meters, Resource resource,
                uint64_t amount) {
  bool isShares = meters.size() > OWN_PLACE && full.kind == meters[OWN_PLACE]->kind;
  bool isAncestor = isShares && &full != meters[OWN_PLACE].get();
  return full.refusal(resource, amount, isAncestor ? ANCESTOR : full.holder);
}

// Counts at each, or at none: then why.
std::optional<Error> addToAll(const std::vector<std::shared_ptr<Meter>>& meters, Resource resource, uint64_t amount) {
  for (size_t i = 0; i < meters.size(); ++i) {
    if (meters[i]->add(resource, amount)) continue;
    for (size_t before = 0; before < i; ++before) meters[before]->remove(resource, amount);
    return refusalOf(*meters[i], meters, resource, amount);
  }
  return std::nullopt;
}

}  // namespace

bool Meter::add(Resource resource, uint64_t amount) {
  auto& count = counts[size_t(resource)];
  uint64_t most = bound(resource);
  if (most == 0) {
    count.fetch_add(amount, std::memory_order_relaxed);
    return true;
  }
  // An amount beyond all bounds must not be seen in the count by others, nor wrap it around.
  if (amount <= most) {
    if (count.fetch_add(amount, std::memory_order_relaxed) + amount <= most) return true;
    count.fetch_sub(amount, std::memory_order_relaxed);
  }
  kind->refusals[size_t(resource)].fetch_add(1, std::memory_order_relaxed);
  return false;
}

Error Meter::refusal(Resource resource, uint64_t amount, const std::string& named) const {
  const Words& words = wordsFor(resource);
  uint64_t most = bound(resource);
  std::string flag = std::string(kind->scope) + "." + words.name;
  std::string sentence;
  if (words.bytes) {
    sentence = named + " may have " + formatSize(most) + " of " + words.things + " (" + flag + "), and " +
               formatSize(amount) + " more would be beyond that";
  } else {
    sentence = named + " has " + std::to_string(most) + " " + words.things + ", as many as it may (" + flag + ")";
  }
  return {ErrorCode::LIMIT, sentence + "; " + words.wayOut + kind->lastResort, {}};
}

Meters::Meters(std::vector<std::shared_ptr<Meter>> meters)
    : meters(std::make_shared<const std::vector<std::shared_ptr<Meter>>>(std::move(meters))) {}

Result<Meters::Charge> Meters::take(Resource resource, uint64_t amount) const {
  if (auto refused = addToAll(*meters, resource, amount)) return *refused;
  Charge charge;
  charge.meters = meters;
  charge.resource = resource;
  charge.counted = amount;
  return charge;
}

Error Meters::refusalOf(const Meter& full, Resource resource) const {
  return capstan::server::refusalOf(full, *meters, resource, 1);
}

std::optional<Error> Meters::refusal(Resource resource) const {
  auto one = take(resource);
  return one.ok() ? std::nullopt : std::optional<Error>(one.error());
}

Meters::Charge Meters::takeAnyway(Resource resource, uint64_t amount) const {
  for (auto& meter : *meters) meter->addAnyway(resource, amount);
  Charge charge;
  charge.meters = meters;
  charge.resource = resource;
  charge.counted = amount;
  return charge;
}

Meters::Charge::Charge(Charge&& other) noexcept
    : meters(std::move(other.meters)), resource(other.resource), counted(std::exchange(other.counted, 0)) {}

Meters::Charge& Meters::Charge::operator=(Charge&& other) noexcept {
  if (this == &other) return *this;
  giveBack();
  meters = std::move(other.meters);
  resource = other.resource;
  counted = std::exchange(other.counted, 0);
  return *this;
}

Status Meters::Charge::grow(uint64_t by) {
  if (auto refused = addToAll(*meters, resource, by)) return *refused;
  counted += by;
  return okStatus();
}

void Meters::Charge::giveBack() {
  if (counted == 0) return;
  for (auto& meter : *meters) meter->remove(resource, counted);
  counted = 0;
}

}  // namespace capstan::server
