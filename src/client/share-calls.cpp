// The Client's methods for shares.
#include <algorithm>

#include <capstan/client/client-impl.h>
#include <capstan/client/server-id.h>
#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

namespace {

// More than anybody hands out; a server that goes on for ever must not fill the memory.
constexpr size_t MAX_SHARES = 100'000;

std::string textOf(capnp::Data::Reader data) { return std::string(rpc::asView(data)); }
std::string textOf(capnp::Text::Reader text) { return std::string(text.begin(), text.size()); }

Result<Share> shareFrom(schema::Share::Reader from) {
  Share share;
  share.id = textOf(from.getId());
  share.parent = textOf(from.getParent());
  if (!isServerId(share.id) || (!share.parent.empty() && !isServerId(share.parent))) return noServerId("share");
  share.label = textOf(from.getLabel());
  share.path = textOf(from.getPath());
  share.write = from.getRights().getWrite();
  share.compute = from.getRights().getCompute();
  share.made = from.getMade();
  share.expires = from.getExpires();
  // Told to the minute, which may have begun before it was made.
  share.lastUsed = from.getLastUsed() == 0 ? 0 : std::max(from.getLastUsed(), from.getMade());
  share.uses = from.getUses();
  share.used = from.getUsed();
  share.quota = from.getQuota();
  share.stored = from.getStored();
  share.state = static_cast<ShareState>(from.getState());
  share.connections = from.getConnections();
  return share;
}

schema::Grants::Client grantsOf(Connection& connection) {
  return connection.session().grantsRequest().send().getGrants();
}

struct SharePage {
  std::vector<Share> shares;
  std::string cursor;
  bool atEnd = false;
};

kj::Promise<Result<SharePage>> sharesAfter(Links& links, std::string cursor) {
  return links.run<SharePage>(Repeat::YES, [cursor = std::move(cursor)](Connection& connection) {
    auto request = grantsOf(connection).listRequest();
    request.setCursor(rpc::asData(cursor));
    return request.send().then([&cursor](capnp::Response<schema::Grants::ListResults>&& response) -> Result<SharePage> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      SharePage page;
      for (auto from : response.getShares()) {
        auto share = shareFrom(from);
        if (!share.ok()) return std::move(share).error();
        page.shares.push_back(std::move(*share));
      }
      page.cursor = textOf(response.getCursor());
      page.atEnd = response.getAtEnd();
      if (!page.atEnd && (page.cursor == cursor || page.shares.empty())) {
        return Error{ErrorCode::IO, "the server does not go on with the list of shares", {}};
      }
      return page;
    });
  });
}

kj::Promise<Result<std::vector<Share>>> gather(Links& links, std::vector<Share> gathered, std::string cursor) {
  return sharesAfter(links, std::move(cursor))
      .then([&links, gathered = std::move(gathered)](
                Result<SharePage> page) mutable -> kj::Promise<Result<std::vector<Share>>> {
        if (!page.ok()) return Result<std::vector<Share>>(page.error());
        if (gathered.size() + page->shares.size() > MAX_SHARES) {
          std::string sentence = "the server lists more than " + std::to_string(MAX_SHARES) + " shares";
          return Result<std::vector<Share>>(Error{ErrorCode::CORRUPT, std::move(sentence), {}});
        }
        for (auto& share : page->shares) gathered.push_back(std::move(share));
        if (page->atEnd) return Result<std::vector<Share>>(std::move(gathered));
        return gather(links, std::move(gathered), std::move(page->cursor));
      });
}

}  // namespace

kj::Promise<Result<NewShare>> Client::share(ShareTerms terms) {
  return impl->links.run<NewShare>(Repeat::NO, [terms = std::move(terms)](Connection& connection) {
    auto request = connection.fileStore().shareRequest();
    auto to = request.initTerms();
    to.setPath(rpc::asData(terms.path));
    to.initRights().setWrite(terms.write);
    to.getRights().setCompute(terms.compute);
    to.setLifetime(terms.lifetime);
    to.setUses(terms.uses);
    to.setQuota(terms.quota);
    to.setLabel(terms.label.c_str());
    return request.send().then([](capnp::Response<schema::FileStore::ShareResults>&& response) -> Result<NewShare> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      auto share = shareFrom(response.getShare());
      if (!share.ok()) return std::move(share).error();
      return NewShare{std::move(*share), textOf(response.getToken())};
    });
  });
}

kj::Promise<Result<std::vector<Share>>> Client::shares() { return gather(impl->links, {}, {}); }

kj::Promise<Result<Share>> Client::currentShare() {
  return impl->links.run<Share>(Repeat::YES, [](Connection& connection) {
    return grantsOf(connection)
        .currentRequest()
        .send()
        .then([](capnp::Response<schema::Grants::CurrentResults>&& response) -> Result<Share> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return kj::mv(*error);
          }
          return shareFrom(response.getShare());
        });
  });
}

kj::Promise<Result<uint32_t>> Client::revokeShare(std::string id) {
  return impl->links.run<uint32_t>(Repeat::YES, [id = std::move(id)](Connection& connection) {
    auto request = grantsOf(connection).revokeRequest();
    request.setId(id.c_str());
    return request.send().then([](capnp::Response<schema::Grants::RevokeResults>&& response) -> Result<uint32_t> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      return response.getEnded();
    });
  });
}

kj::Promise<Result<Contact>> Client::contact() {
  return impl->links.run<Contact>(Repeat::YES, [](Connection& connection) {
    return grantsOf(connection)
        .contactRequest()
        .send()
        .then([](capnp::Response<schema::Grants::ContactResults>&& response) -> Result<Contact> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return kj::mv(*error);
          }
          Contact contact;
          for (auto address : response.getAddresses()) contact.addresses.push_back(textOf(address));
          contact.certificate = textOf(response.getCertificate());
          return contact;
        });
  });
}

}  // namespace capstan::client
