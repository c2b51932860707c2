// What a login stands on: the owner's grant, or a share with its terms. Shared by everything that is done under it, on
// all threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <capstan/base/error.h>
#include <capstan/server/access/places.h>
#include <capstan/server/access/rights.h>

namespace capstan::server {

inline constexpr const char* OWNER_GRANT = "owner";

struct ShareTerms {
  std::string path;  // from the root of the served folder
  Rights rights;
  int64_t expires = 0;  // nanoseconds since the epoch; 0: never
  uint64_t uses = 0;    // logins; 0: any number
  std::string label;
  uint64_t quota = 0;  // bytes; 0: none
};

// Thread-safe. Lives as long as anybody uses it, also after its end.
class Grant {
 public:
  // constant after construction
  const std::string id;
  const std::shared_ptr<const Grant> parent;  // null: the owner's
  const ShareTerms terms;
  const int64_t made;     // nanoseconds since the epoch
  const int64_t expires;  // the earliest of its own and its ancestors'; 0: never

  // For file jobs: the owner's are those of all shares, of which each share has a part, with all made from it.
  const std::shared_ptr<Places> filePlaces = filePlacesBelow(parent.get());

  Grant(std::string id, std::shared_ptr<const Grant> parent, ShareTerms terms, int64_t made);
  static std::shared_ptr<Grant> newOwner();
  KJ_DISALLOW_COPY(Grant);

  bool isOwner() const { return parent == nullptr; }
  // Whether it is this one, or was made from it, directly or not.
  bool isFrom(const Grant& ancestor) const;

  // Why nothing under it succeeds any more: `revoked` or `expired`, naming the label. A load and a comparison.
  std::optional<Error> ended() const;
  // The same at this time, in nanoseconds since the epoch.
  std::optional<Error> endedAt(int64_t now) const;

  // It, and (whoever calls this does so for) all made from it. For good.
  void revoke() { revoked.store(true, std::memory_order_seq_cst); }
  // In one order with revoke() and Committer::waitForApply(): what is applied after that has seen this.
  bool isRevoked() const { return revoked.load(std::memory_order_seq_cst); }

 private:
  static std::shared_ptr<Places> filePlacesBelow(const Grant* parent) {
    if (parent == nullptr) return std::make_shared<Places>(FILE_JOBS_OF_SHARES);
    if (!parent->isOwner()) return parent->filePlaces;
    return std::make_shared<Places>(FILE_JOBS_OF_SHARE, parent->filePlaces);
  }

  std::atomic<bool> revoked{false};
};

// For whoever holds a share made from it: its label was given to others.
inline constexpr const char* ANCESTOR = "a share that it was made from";
// How the holder of `held` is told of `grant`, which is that or what it was made from.
std::string nameFor(const Grant& held, const Grant& grant);

}  // namespace capstan::server
