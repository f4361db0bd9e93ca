/** The grammar of permissions and the rule by which a grant covers a request. Pure. */

const SEGMENT = /^[a-z0-9_][a-z0-9_.-]{0,63}$/;
const SEGMENTS_MAX = 8;

/** What a permission asked for must look like. A request never holds a `*`. */
export function isPermission(text: string): boolean {
  const segments = text.split(':');
  return segments.length <= SEGMENTS_MAX && segments.every((segment) => SEGMENT.test(segment));
}

/** What may be granted: a permission in which any segment may be `*`. */
export function isGrant(text: string): boolean {
  const segments = text.split(':');
  return (
    segments.length <= SEGMENTS_MAX && segments.every((segment) => segment === '*' || SEGMENT.test(segment))
  );
}

/**
 * Whether `grant` covers `request`, as Apache Shiro's WildcardPermission does: segment by segment, `*`
 * matching any one segment; a shorter grant covers all below it, a longer one only where all its further
 * segments are `*`. Permissions below `permcast:` are covered by exactly their own name and by nothing else.
 */
export function covers(grant: string, request: string): boolean {
  if (!isPermission(request) || !isGrant(grant)) return false;
  if (request.startsWith('permcast:')) return grant === request;
  const granted = grant.split(':');
  const asked = request.split(':');
  return granted.every((segment, index) => {
    const wanted = asked[index];
    return segment === '*' || (wanted !== undefined && segment === wanted);
  });
}

/** Whether any of a user's grants covers the request; `permcast:operator` implies the other two built-in rights. */
export function allows(grants: readonly string[], request: string): boolean {
  if (!isPermission(request)) return false;
  if ((request === 'permcast:admin' || request === 'permcast:check') && grants.includes('permcast:operator')) {
    return true;
  }
  return grants.some((grant) => covers(grant, request));
}
