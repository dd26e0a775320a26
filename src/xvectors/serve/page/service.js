// Requests to the service that the page came from.
import { strings } from "./strings.js";

export let key = "";
export const useKey = (text) => (key = text.trim());

export class Refused extends Error {}

export async function ask(method, path, fields) {
  const options = { method, headers: key ? { Authorization: `Bearer ${key}` } : {} };
  if (fields) {
    options.body = new FormData();
    for (const [name, value] of Object.entries(fields)) options.body.append(name, value);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(strings.unreachable);
  }
  if (response.status === 204) return null;
  const answer = await response.json();
  if (!response.ok) throw new Refused(`${answer.detail}; ${answer.remedy}`);
  return answer;
}
