#include "wire/http_answer.h"

// Which Boost's headers take, and do not include.
#include <ostream>

#include <boost/beast/http/status.hpp>
#include <ctime>

#include "core/http_request.h"

namespace mesh::http_answer {

std::string rendered(const Head& head, bool goes_on) {
  const auto reason = boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(head.status));
  std::string out = "HTTP/1.1 " + std::to_string(head.status) + " ";
  out.append(reason.data(), reason.size());
  out += "\r\nDate: " + http_date(::time(nullptr));
  for (const auto& [name, value] : head.fields) out += "\r\n" + name + ": " + value;
  if (head.status != 304 && head.length >= 0) out += "\r\nContent-Length: " + std::to_string(head.length);
  if (!goes_on) out += "\r\nConnection: close";
  return out + "\r\n\r\n";
}

int status_of(const Error& error) {
  switch (error.status()) {
    case Status::not_found:
      return 404;
    case Status::usage:
      return 400;
    case Status::unreachable:
      return 503;
    case Status::refused:
      return 403;
    default:
      return 502;
  }
}

void add_guards(Head& head, bool is_own) {
  head.fields.emplace_back("Content-Security-Policy", std::string("sandbox") +
                                                          (is_own ? " allow-same-origin allow-downloads" : "") +
                                                          "; default-src 'none'; style-src 'unsafe-inline'" +
                                                          (is_own ? "; img-src 'self'; media-src 'self'" : ""));
  head.fields.emplace_back("X-Content-Type-Options", "nosniff");
  head.fields.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  head.fields.emplace_back("Referrer-Policy", "no-referrer");
}

void add_page_guards(Head& head) {
  head.fields.emplace_back(
      "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "
      "'script'; trusted-types 'none'");
  head.fields.emplace_back("X-Content-Type-Options", "nosniff");
  head.fields.emplace_back("X-Frame-Options", "DENY");
  head.fields.emplace_back("Cross-Origin-Opener-Policy", "same-origin");
  head.fields.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  head.fields.emplace_back("Referrer-Policy", "no-referrer");
}

Text error_text(int status, const std::string& why) {
  Text out;
  out.head.status = status;
  out.head.fields = {{"Content-Type", "text/plain; charset=utf-8"}, {"Cache-Control", "no-store"}};
  if (status == 401) out.head.fields.emplace_back("WWW-Authenticate", "Bearer realm=\"meshseed\"");
  if (status == 405) out.head.fields.emplace_back("Allow", "GET, HEAD");
  if (status == 503) out.head.fields.emplace_back("Retry-After", "1");
  add_guards(out.head, true);
  out.body = why + "\n";
  return out;
}

Text found_at(const std::string& place) {
  Text out;
  out.head.status = 302;
  out.head.fields = {{"Location", place}, {"Cache-Control", "no-store"}};
  add_guards(out.head, true);
  return out;
}

}  // namespace mesh::http_answer
