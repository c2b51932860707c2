#include <capstan/server/access/grants-server.h>

#include <algorithm>

#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/access/guarded.h>
#include <capstan/server/access/in-turn.h>

namespace capstan::server {

namespace {

constexpr uint32_t MAX_LISTED_SHARES = 256;  // each may have a path of KiBs

schema::Share::State stateOf(const Grants::Info& info) {
  if (auto ended = info.grant->ended()) {
    return ended->code == ErrorCode::EXPIRED ? schema::Share::State::EXPIRED : schema::Share::State::REVOKED;
  }
  return info.isUsedUp ? schema::Share::State::USED_UP : schema::Share::State::LIVE;
}

std::string_view relativeTo(std::string_view top, std::string_view path) {
  if (top.empty() || !isWithin(path, top)) return path;
  path.remove_prefix(top.size());
  if (!path.empty()) path.remove_prefix(1);
  return path;
}

class GrantsServer final : public Guarded<schema::Grants> {
 public:
  GrantsServer(kj::Own<Access> access, GrantsHost& host)
      : Guarded(kj::mv(access)), host(host), grants(host.theGrants()) {}

 protected:
  // Whoever revokes its own grant hears that it is done.
  Access::InFlight atTheEnd(uint64_t interfaceId, uint16_t methodId) const override {
    constexpr uint16_t REVOKE = 2;
    bool isRevoke = interfaceId == capnp::typeId<schema::Grants>() && methodId == REVOKE;
    return isRevoke ? Access::InFlight::GOES_ON : Access::InFlight::IS_CUT;
  }

  kj::Promise<void> current(CurrentContext context) override {
    write(context.getResults().initShare(), grants->infoOf(access->grant()));
    return kj::READY_NOW;
  }

  // The cursor is the id of the last share answered.
  kj::Promise<void> list(ListContext context) override {
    auto params = context.getParams();
    auto all = grants->list(access->grant());
    size_t begin = 0;
    if (params.getCursor().size() > 0) {
      auto last = rpc::asView(params.getCursor());
      auto found = std::find_if(all.begin(), all.end(), [&](auto& info) { return info.grant->id == last; });
      if (found == all.end()) return refuseCursor(context);
      begin = size_t(found - all.begin()) + 1;
    }
    uint32_t most =
        params.getMaxEntries() == 0 ? MAX_LISTED_SHARES : std::min(params.getMaxEntries(), MAX_LISTED_SHARES);
    size_t count = std::min<size_t>(all.size() - begin, most);
    auto results = context.getResults();
    auto shares = results.initShares(unsigned(count));
    for (unsigned i = 0; i < count; ++i) write(shares[i], all[begin + i]);
    if (begin + count > 0) results.setCursor(rpc::asData(all[begin + count - 1].grant->id));
    results.setAtEnd(begin + count == all.size());
    return kj::READY_NOW;
  }

  kj::Promise<void> revoke(RevokeContext context) override {
    auto text = context.getParams().getId();
    std::string id(text.cStr(), text.size());
    context.releaseParams();
    auto ended = grants->end(*access->lease->grant, id);
    if (!ended.ok()) return answer(context, ended.error());
    uint32_t count = ended->live;
    if (count > 0) log::info("the share ", id.c_str(), " and what was made from it is revoked (", count, ")");
    // What goes on under it is cut before anything waits for a disk. Should this call not get to storing it, refresh()
    // does. `this`: the call keeps this object.
    auto cut = host.endAllUnder(std::move(ended->grants));
    auto& scope = access->connection();
    auto stored = inTurn(scope, scope.shareJobs, [this, id]() {
      return host.sharesPool().run([grants = grants, id]() { return grants->storeEnd(id); });
    });
    return cut.then([stored = kj::mv(stored)]() mutable { return kj::mv(stored); })
        .then([context, count](Status stored) mutable -> kj::Promise<void> {
          context.getResults().setEnded(count);
          return stored.ok() ? kj::Promise<void>(kj::READY_NOW) : answer(context, stored.error());
        });
  }

  kj::Promise<void> contact(ContactContext context) override {
    auto contact = host.contact();
    // A socket's path is of this computer, and the owner's business.
    if (!access->grant().isOwner()) {
      std::erase_if(contact.addresses, [](const std::string& address) { return address.starts_with("unix:"); });
    }
    auto results = context.getResults();
    auto addresses = results.initAddresses(unsigned(contact.addresses.size()));
    for (unsigned i = 0; i < addresses.size(); ++i) addresses.set(i, contact.addresses[i].c_str());
    results.setCertificate(contact.certificate.c_str());
    return kj::READY_NOW;
  }

 private:
  GrantsHost& host;
  const std::shared_ptr<Grants> grants;

  template <typename Context>
  static kj::Promise<void> answer(Context& context, const Error& error) {
    rpc::setError(context.getResults().initOutcome(), error);
    return kj::READY_NOW;
  }

  static kj::Promise<void> refuseCursor(ListContext& context) {
    return answer(context,
                  {ErrorCode::INVALID_ARGUMENT, "the cursor is not of this list, or too old; list from the start", {}});
  }

  void write(schema::Share::Builder to, const Grants::Info& info) {
    if (info.grant == nullptr) return;  // its file is gone, and so is the grant
    uint64_t stored = info.grant->terms.quota == 0 ? 0 : host.storedBelow(info.grant->terms.path);
    fillShare(to, info, access->grant().terms.path, host.connectionsOf(*info.grant), stored);
  }
};

}  // namespace

void fillShare(schema::Share::Builder to, const Grants::Info& info, std::string_view top, uint32_t connections,
               uint64_t stored) {
  const Grant& grant = *info.grant;
  to.setId(grant.id.c_str());
  if (grant.parent != nullptr) to.setParent(grant.parent->id.c_str());
  to.setLabel(grant.terms.label.c_str());
  to.setPath(rpc::asData(relativeTo(top, grant.terms.path)));
  fillRights(to.initRights(), grant.terms.rights);
  to.setMade(grant.made);
  to.setExpires(grant.expires);
  to.setUses(grant.terms.uses);
  to.setUsed(info.used);
  to.setLastUsed(info.lastUsed);
  to.setQuota(grant.terms.quota);
  to.setStored(stored);
  to.setState(stateOf(info));
  to.setConnections(connections);
}

schema::Grants::Client newGrants(kj::Own<Access> access, GrantsHost& host) {
  return newGuarded<GrantsServer>(kj::mv(access), host);
}

}  // namespace capstan::server
