/** Says which mails are to be sent: one for each invoice, and one for each order that is on its way. */
import { Event, handler } from "dunlin";

interface Invoice {
  invoice: string;
  order: string;
  customer?: string;
  /** In cents. */
  amount: number;
}

interface Shipment {
  order: string;
}

/** The data of `mail.wanted`. Where there is no `to`, whoever sends it looks up whose order it is. */
export interface Mail {
  order: string;
  to?: string;
  subject: string;
  text: string;
}

/** What the events of both topics have. The rest is as their functions make it. */
function ofOrder(data: any): Invoice | Shipment {
  if (typeof data?.order !== "string") throw new Error("order: expected a string");
  if ("invoice" in data && !Number.isInteger(data.amount)) throw new Error("amount: expected a whole number of cents");
  return data;
}

function written(event: Event<Invoice | Shipment>): Mail {
  const { data } = event;
  if (!("invoice" in data)) {
    return { order: data.order, subject: "Your order is on its way", text: `We have sent your order ${data.order}.` };
  }
  const amount = (data.amount / 100).toFixed(2);
  return {
    order: data.order,
    to: data.customer,
    subject: `Invoice ${data.invoice}`,
    text: `Hello${data.customer ? ` ${data.customer}` : ""},\n\nyour order ${data.order} comes to ${amount} EUR. Thank you!`,
  };
}

export default handler(ofOrder, (event) =>
  Event.of("mail.wanted", written(event), { subject: event.data.order, key: event.data.order }),
);
