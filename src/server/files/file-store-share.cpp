// FileStore.share: a grant for a folder of this tree, with no more rights than this one has.
#include <climits>

#include <capstan/base/clock.h>
#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/access/grants-server.h>
#include <capstan/server/access/in-turn.h>
#include <capstan/server/files/file-store.h>

namespace capstan::server::files {

namespace {

using MadeShare = Result<Grants::Made>;

size_t charactersIn(std::string_view text) {
  size_t count = 0;
  for (char byte : text) count += (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
  return count;
}

Error invalid(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

// Now, and `lifetime` nanoseconds later; 0 for what never ends.
int64_t expiryIn(uint64_t lifetime) {
  if (lifetime == 0) return 0;
  int64_t now = wallClock();
  return lifetime > uint64_t(INT64_MAX - now) ? 0 : now + int64_t(lifetime);
}

// As the asker means them: the path is from the top of its tree.
Result<ShareTerms> readTerms(schema::ShareTerms::Reader from, const Access& access, uint64_t standardQuota) {
  ShareTerms terms;
  terms.path = rpc::asView(from.getPath());
  Status valid = validatePath(terms.path);
  if (!valid.ok()) return valid.error();
  terms.rights = rightsFrom(from.getRights());
  if (!terms.rights.isWithin(access.rights)) {
    return Error{ErrorCode::DENIED, "a share has no more rights than what it is made from; ask for fewer", {}};
  }
  terms.label = std::string(from.getLabel().cStr(), from.getLabel().size());
  if (!isUtf8(terms.label) || charactersIn(terms.label) > MAX_SHARE_LABEL) {
    return invalid("the label of a share has at most " + std::to_string(MAX_SHARE_LABEL) + " characters");
  }
  terms.expires = expiryIn(from.getLifetime());
  terms.uses = from.getUses();
  terms.quota = from.getQuota() == 0 ? standardQuota : from.getQuota();
  return terms;
}

}  // namespace

kj::Promise<void> FileStoreServer::share(ShareContext context) {
  auto refuse = [](ShareContext& context, const Error& error) {
    rpc::setError(context.getResults().initOutcome(), error);
  };
  std::shared_ptr<Grants> grants = scope->grants;
  if (grants == nullptr) {
    refuse(context, {ErrorCode::UNSUPPORTED, "this server makes no shares", {}});
    return kj::READY_NOW;
  }
  if (scope->shuttingDown) {
    refuse(context, shuttingDownError());
    return kj::READY_NOW;
  }
  auto terms = readTerms(context.getParams().getTerms(), *access, folder.options.shareQuota);
  context.releaseParams();
  if (!terms.ok()) {
    refuse(context, terms.error());
    return kj::READY_NOW;
  }
  auto place = folder.run(*scope, [view = view, path = terms->path]() { return view->folderAt(path); });
  // `this`: the call's context keeps the capability.
  auto make = [this, grants, terms = std::move(*terms)](Result<std::string> path) mutable -> kj::Promise<MadeShare> {
    if (!path.ok()) return MadeShare(path.error());
    terms.path = joinPath(view->top(), *path);
    return inTurn(*scope, scope->shareJobs, [this, grants, terms = std::move(terms)]() mutable {
      return scope->sharesPool->run([grants, parent = access->lease->grant, terms = std::move(terms)]() mutable {
        return grants->make(parent, std::move(terms));
      });
    });
  };
  return place.then(kj::mv(make)).then([this, grants, refuse, context](MadeShare made) mutable {
    if (!made.ok()) return refuse(context, made.error());
    auto results = context.getResults();
    results.setToken(rpc::asData(made->token));
    uint64_t stored = made->grant->terms.quota == 0 ? 0 : folder.storedBelow(made->grant->terms.path);
    fillShare(results.initShare(), grants->infoOf(*made->grant), access->top, 0, stored);
    log::info(scope->client.c_str(), " has made the share ", made->grant->id.c_str(), " from ",
              made->grant->parent->id.c_str());
  });
}

}  // namespace capstan::server::files
