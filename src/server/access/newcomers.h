// The connections that have not logged in yet: anybody can have them, so they are bounded by themselves, for each
// network and in all, and never take the places of those who have logged in.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include <kj/async.h>

#include <capstan/server/access/limits.h>

namespace capstan::server {

// Thread-safe. One more than there may be takes the place of another: of the oldest from the same network, or, where
// there are too many in all, of the oldest from the network that has most. So whoever comes in crowds crowds out
// itself.
class Newcomers {
 public:
  Newcomers(uint64_t most, uint64_t mostOfNetwork);
  ~Newcomers();
  KJ_DISALLOW_COPY(Newcomers);

  // One of them, until it is destroyed. May outlive the Newcomers.
  class Entry {
   public:
    ~Entry();
    KJ_DISALLOW_COPY(Entry);

    // Resolves on the calling loop when it has to give way; never once it is destroyed. Only the last promise counts.
    kj::Promise<void> whenCrowdedOut();

    // The limit that another one had to give way to when this one came.
    const std::optional<Limit> crowding;

   private:
    friend class Newcomers;
    struct Place;
    Entry(std::shared_ptr<Place> place, std::optional<Limit> crowding);
    const std::shared_ptr<Place> place;
  };

  // `network`: see networkOf().
  std::unique_ptr<Entry> enter(const std::string& network);

  // Those that had to give way and are not gone yet are not counted.
  uint64_t count() const;
  // Of the network that has most.
  uint64_t mostOfOne() const;

 private:
  struct Shared;
  const std::shared_ptr<Shared> shared;
};

}  // namespace capstan::server
